"""Arrays as .npy files and back, without a second copy of a large one; never of Python objects.

References
----------
numpy.lib.format, A simple file format for NumPy arrays.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from etl_ml.lake.pieces import PIECE, Data

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

_HEADER = 1 << 16


def array_file(array: Any) -> Data:
    """An array as a .npy file: what is large is its own memory behind the header.

    Raises
    ------
    ValueError
        It is an array of objects.
    """
    import numpy as np
    from numpy.lib import format as npy

    array = np.asanyarray(array)
    out = io.BytesIO()
    if array.nbytes < PIECE or array.dtype.hasobject or array.dtype.names is not None:
        np.save(out, array, allow_pickle=False)
        return out.getvalue()
    header = npy.header_data_from_array_1_0(array)
    npy.write_array_header_1_0(out, header)
    values = np.asarray(array).ravel("F" if header["fortran_order"] else "C")
    return memoryview(out.getvalue()), values.view(np.uint8).data


def array_of(file: Array) -> Array:
    """The array of a .npy file, in the file's own memory.

    Parameters
    ----------
    file : all of its bytes, of shape (bytes,), dtype uint8

    Raises
    ------
    ValueError
        It is no such file, holds objects, or claims more or less than there is.
    """
    import numpy as np
    from numpy.lib import format as npy

    head = io.BytesIO(file[:_HEADER].tobytes())
    old = npy.read_magic(head) == (1, 0)
    read = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
    shape, by_column, dtype = read(head)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which only a pickle could")
    values = file[head.tell() :]
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != values.nbytes:
        raise ValueError(f"its header claims {size} bytes, and {values.nbytes} are there")
    if not size:
        return np.empty(shape, dtype)
    if head.tell() % dtype.alignment:
        values = values.copy()
    found: Array = values.view(dtype).reshape(shape[::-1] if by_column else shape)
    return found.T if by_column else found
