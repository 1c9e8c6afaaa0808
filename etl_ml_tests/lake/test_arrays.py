"""Arrays of every kind, in memory of their own and in every backend."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as made

from etl_ml.lake import Contents, Lake
from etl_ml.lake import pieces as module
from etl_ml.lake.arrays import array_file, array_of
from etl_ml.lake.pieces import pieces_of, sha256_of, size_of

LARGE = np.random.default_rng(0).normal(size=(700, 1000))
KINDS: dict[str, Any] = {
    "large": LARGE,
    "by column": np.asfortranarray(LARGE),
    "every second": LARGE[::2, ::2].repeat(4, axis=0),
    "transposed": LARGE.T,
    "text": np.array(["é", "ab", ""] * 500_000),
    "moments": np.arange(800_000).astype("datetime64[us]"),
    "truth": np.arange(5_000_000) % 3 == 0,
    "big endian": LARGE.astype(">f8"),
    "none": np.empty((0, 3)),
    "one": np.array(1.5),
    "fields": np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8")]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_comes_back_as_numpy_itself_would_have_it(lake: Lake, kind: str) -> None:
    array = KINDS[kind]
    version = lake.write("p", "a", Contents(files={"a.npy": array}))
    plain = io.BytesIO()
    np.save(plain, array)
    assert version.read_bytes("a.npy") == plain.getvalue()
    found = version.read("a.npy")
    expected = np.load(io.BytesIO(plain.getvalue()))
    np.testing.assert_array_equal(found, expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.flags.f_contiguous == expected.flags.f_contiguous
    found[...] = found  # it may be changed, as any other
    np.testing.assert_array_equal(version.read("a.npy"), expected)


@given(made.arrays(made.scalar_dtypes(), made.array_shapes(min_dims=0, min_side=0)), st.booleans())
def test_what_is_large_is_written_as_what_is_small(array: Any, by_column: bool) -> None:
    array = np.asarray(array, order="F" if by_column else "C")
    plain = io.BytesIO()
    np.save(plain, array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etl_ml.lake.arrays.PIECE", 0)
        data = array_file(array)
    assert b"".join(pieces_of(data)) == plain.getvalue()
    assert size_of(data) == len(plain.getvalue())
    back = array_of(np.frombuffer(bytearray(plain.getvalue()), np.uint8))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_a_large_array_is_neither_copied_to_be_written_nor_twice_to_be_read(local: Lake) -> None:
    array = np.arange(8 << 20)
    tracemalloc.start()
    version = local.write("p", "a", Contents(files={"a.npy": array}))
    _, writing = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    found = version.read("a.npy")
    _, reading = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, array)
    assert writing < array.nbytes / 4
    assert reading < array.nbytes * 1.25


def test_pieces_and_their_digest_are_those_of_the_whole(tmp_path: Any) -> None:
    data = bytes(range(256)) * 50_000
    path = tmp_path / "file"
    path.write_bytes(data)
    parts = (memoryview(data)[:7], memoryview(data)[7:])
    for same in (data, path, parts):
        assert b"".join(pieces_of(same)) == data
        assert all(len(piece) <= module.PIECE for piece in pieces_of(same))
        assert sha256_of(same) == sha256_of(data)
        assert size_of(same) == len(data)
