"""What an asset of your own may return, as a version of the lake and back; nothing is pickled."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

from etl_ml.lake import Contents, Version
from etl_ml.lake.documents import dump_json
from etl_ml.lake.parquet_file import is_plain
from etl_ml.orchestration.arrow_storage import LIBRARY, POSITION, restored, storable
from etl_ml.spec.error import EtlMlError, bounded

if TYPE_CHECKING:
    import pyarrow as pa

_SCHEMA = "schema.arrow"
_FIX = (
    "return a pandas or Polars frame, an Arrow table, a NumPy array, a scikit-learn estimator, "
    "bytes, or what JSON can hold"
)


class Unstorable(EtlMlError):
    """A value that the lake does not keep; it never pickles."""


def encode(value: Any, where: str) -> Contents:
    """A value as a version's contents.

    Frames become the version's table, everything else one file.

    Parameters
    ----------
    where : the asset, for messages

    Raises
    ------
    Unstorable
        It is of another kind, or would not come back as it is.
    """
    if _is(value, "pandas", "DataFrame"):
        return _frame(_arrow_of_pandas(value, where), "pandas", where)
    if _is(value, "polars", "LazyFrame"):
        return _frame(value.collect(engine="streaming").to_arrow(), "polars.LazyFrame", where)
    if _is(value, "polars", "DataFrame"):
        return _frame(value.to_arrow(), "polars", where)
    if _is(value, "pyarrow", "Table"):
        return _frame(value, "pyarrow", where)
    if _is(value, "numpy", "ndarray"):
        if value.dtype.hasobject:
            raise _refused(value, where, f"an array of {value.dtype}")
        return Contents(files={"value.npy": value})
    if _is(value, "sklearn.base", "BaseEstimator"):
        from etl_ml.lake.estimator import dump_estimator

        return Contents(files={"value.skops": dump_estimator(value)})
    if isinstance(value, bytes):
        return Contents(files={"value.bin": value})
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise _refused(value, where, f"a {type(value).__name__}") from None
    if json.loads(text) != value:
        raise _refused(
            value, where, "a value that JSON would change (tuples, keys that are no text)"
        )
    return Contents(files={"value.json": dump_json(value)})


def decode(version: Version, wanted: Any = None) -> Any:
    """The value of a version, in the type that it had or in the one that is wanted.

    Parameters
    ----------
    wanted : a frame's type (pandas, Polars, Arrow), `Version`, or anything else for as it was
    """
    if wanted is Version:
        return version
    names = {file.path for file in version.manifest.files}
    if version.manifest.table is not None:
        return _frame_of(version, names, wanted)
    if "value.skops" in names:
        from etl_ml.lake.estimator import load_estimator
        from etl_ml.train.trusted import trusted_types

        data = version.read_bytes("value.skops")
        return load_estimator(data, trusted=trusted_types(), name=f"{version.url}/value.skops")
    if len(names) != 1 or not next(iter(names)).startswith("value."):
        return version  # not one of ours: a pipeline's asset, of many files
    return version.read(next(iter(names)))


def _frame(table: pa.Table, library: str, where: str) -> Contents:
    import polars as pl
    import pyarrow as pa

    stored, shape = storable(table, library, where)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, shape.schema) as writer:
        writer.write_table(shape)
    rows = pl.DataFrame(stored)
    # Polars writes faster than Delta's library, which converts what it has to.
    kept = rows.lazy() if is_plain(rows.schema) else _Table(stored)
    return Contents(kept, {_SCHEMA: sink.getvalue()})


class _Table:
    """An Arrow table as batches that can be read again."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.schema = table.schema

    def __iter__(self) -> Any:
        return iter(self._table.to_batches(max_chunksize=131_072))


def _frame_of(version: Version, names: set[str], wanted: Any) -> Any:
    import polars as pl
    import pyarrow as pa

    library = "polars"
    if _SCHEMA in names:
        with pa.ipc.open_stream(version.read_bytes(_SCHEMA)) as reader:
            shape = reader.read_all()
        library = shape.schema.metadata[LIBRARY].decode()
        rows = version.table.to_polars()
        if not rows[POSITION].is_sorted():  # Delta's library writes in parallel
            rows = rows.sort(POSITION)
        table = restored(rows.drop(POSITION).to_arrow(), shape)
        del rows
    else:  # a pipeline's own table
        table = version.table.to_arrow()
    kind = getattr(wanted, "__module__", "").partition(".")[0]
    if kind in ("pandas", "polars", "pyarrow"):
        library = "polars.LazyFrame" if getattr(wanted, "__name__", "") == "LazyFrame" else kind
    if library == "pandas":
        # Each column is let go once it is converted.
        return table.to_pandas(split_blocks=True, self_destruct=True)
    if library == "pyarrow":
        metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != LIBRARY}
        return table.replace_schema_metadata(metadata or None)
    frame = pl.DataFrame(table)
    return frame.lazy() if library == "polars.LazyFrame" else frame


def _arrow_of_pandas(frame: Any, where: str) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.Table.from_pandas(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise Unstorable(
            f"{where}: the frame has a column that Arrow cannot hold.",
            seen=bounded(str(error.args[-1]), 160),
            where=where,
            fix="give each column one type, and each a name of its own",
        ) from None


def _is(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a library's class, without importing the library."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return kind is not None and isinstance(value, kind)


def _refused(value: Any, where: str, what: str) -> Unstorable:
    return Unstorable(
        f"{where} returned {what}, which the lake does not keep.",
        seen=f"its type is {type(value).__module__}.{type(value).__qualname__}",
        where=where,
        fix=_FIX,
    )
