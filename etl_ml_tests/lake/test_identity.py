"""The identity of a row is part of the lake's format: golden values from the written encoding."""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.lake.identity import Identity, hash_rows


def digest(salt: bytes = b"", **cells: bytes) -> bytes:
    """BLAKE2b-128 of the encoded cells, in the order of their names."""
    encoded = b"".join(b"%d:%s%s" % (len(n.encode()), n.encode(), cells[n]) for n in sorted(cells))
    return hashlib.blake2b(encoded, digest_size=16, key=salt).digest()


def text(value: str, tag: bytes = b"s") -> bytes:
    data = value.encode()
    return tag + b"%d:" % len(data) + data


def hashes(table: pa.Table, salt: bytes = b"") -> list[bytes]:
    whole = hash_rows(table, table.column_names, salt).tobytes()
    return [whole[i : i + 16] for i in range(0, len(whole), 16)]


MOMENT = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
MICROS = (MOMENT - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("cells", "encoded"),
    [
        (pa.array([-7]), b"i" + struct.pack(">q", -7)),
        (pa.array([7], pa.int16()), b"i" + struct.pack(">q", 7)),
        (pa.array([200], pa.uint8()), b"i" + struct.pack(">q", 200)),
        (pa.array([2**64 - 1], pa.uint64()), text(str(2**64 - 1), b"x")),
        (pa.array([0.1]), b"f" + struct.pack(">d", 0.1)),
        (pa.array([0.5], pa.float32()), b"f" + struct.pack(">d", 0.5)),
        (pa.array([-0.0]), b"f" + struct.pack(">d", 0.0)),
        (pa.array([float("nan")]), b"f" + bytes.fromhex("7ff8000000000000")),
        (pa.array([True]), b"b" + struct.pack(">q", 1)),
        (pa.array([date(1969, 12, 31)]), b"d" + struct.pack(">q", -1)),
        (pa.array([MOMENT], pa.timestamp("us", "UTC")), b"t" + struct.pack(">q", MICROS)),
        (
            pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("us")),
            b"t" + struct.pack(">q", MICROS),
        ),
        (pa.array([1], pa.timestamp("s")), b"t" + struct.pack(">q", 1_000_000)),
        (pa.array(["é"]), text("é")),
        (pa.array([""]), b"s0:"),
        (pa.array(["é"], pa.large_string()), text("é")),
        (pa.array(["é"], pa.string_view()), text("é")),
        (pa.array(["a"]).dictionary_encode(), text("a")),
        (pa.array([[1, None]]), text("[1, null]", b"j")),
        (pa.array([{"k": "v"}]), text('{"k": "v"}', b"j")),
        (pa.array([Decimal("1.50")]), text("1.50", b"x")),
        (pa.array([b"\xff\x00"]), b"x2:\xff\x00"),
        (pa.array([None], pa.int64()), b"n"),
        (pa.array([None], pa.float64()), b"n"),
        (pa.array([None], pa.string()), b"n"),
        (pa.array([None], pa.timestamp("us", "UTC")), b"n"),
        (pa.array([None], pa.list_(pa.int64())), b"n"),
        (pa.nulls(1), b"n"),
    ],
)
def test_every_type_is_encoded_as_written_down(cells: pa.Array, encoded: bytes) -> None:
    assert hashes(pa.table({"c": cells})) == [digest(c=encoded)]


def test_the_hash_of_one_row_never_changes() -> None:
    table = pa.table({"long_url": [0.5], "name": ["Zoë"], "n": pa.array([None], pa.int64())})
    expected = digest(long_url=b"f" + struct.pack(">d", 0.5), name=text("Zoë"), n=b"n")
    assert hashes(table) == [expected]
    assert hashes(table, b"42") == [
        digest(b"42", long_url=b"f" + struct.pack(">d", 0.5), name=text("Zoë"), n=b"n")
    ]
    assert hashes(table, b"42") != hashes(table)


def test_minus_zero_is_zero_and_every_nan_is_one() -> None:
    other = np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)
    zero, minus, *nans = hashes(pa.table({"c": np.r_[0.0, -0.0, np.nan, other]}))
    assert zero == minus
    assert len(set(nans)) == 1
    assert zero not in nans


def test_null_is_neither_zero_nor_empty_nor_nan() -> None:
    assert (
        len(set(hashes(pa.table({"c": pa.array([None, 0.0, float("nan")], from_pandas=False)}))))
        == 3
    )
    assert len(set(hashes(pa.table({"c": [None, "", "n"]})))) == 3


def test_composed_and_decomposed_text_is_the_same_text() -> None:
    composed, decomposed = "Zoë", unicodedata.normalize("NFD", "Zoë")
    assert composed != decomposed
    assert len(set(hashes(pa.table({"c": [composed, decomposed]})))) == 1


def test_a_time_is_the_same_in_every_zone() -> None:
    berlin = pa.array(
        [MOMENT.astimezone(timezone(timedelta(hours=1)))], pa.timestamp("us", "Europe/Berlin")
    )
    utc = pa.array([MOMENT], pa.timestamp("us", "UTC"))
    assert hashes(pa.table({"c": berlin})) == hashes(pa.table({"c": utc}))


def test_cells_do_not_run_into_each_other() -> None:
    one = pa.table({"a": ["x", "1:bs1:y"], "b": ["y", ""]})
    assert len(set(hashes(one))) == 2
    assert hashes(pa.table({"ab": ["c"]})) != hashes(pa.table({"a": ["bc"]}))


CELLS = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30).map(
        lambda v: pa.array(v, pa.int64())
    ),
    st.lists(st.none() | st.floats(), min_size=1, max_size=30).map(
        lambda v: pa.array(v, pa.float64(), from_pandas=False)
    ),
    st.lists(
        st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=30
    ).map(lambda v: pa.array(v, pa.string())),
)


def encode(value: Any) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, float):
        value = 0.0 if value == 0 else value
        return b"f" + (
            struct.pack(">d", value) if value == value else bytes.fromhex("7ff8000000000000")
        )
    if isinstance(value, int):
        return b"i" + struct.pack(">q", value)
    return text(unicodedata.normalize("NFC", value))


@settings(max_examples=60, deadline=None)
@given(CELLS, st.integers(1, 7))
def test_the_hash_is_that_of_the_encoding_whatever_the_order_of_columns_and_chunks(
    cells: pa.Array, step: int
) -> None:
    n = len(cells)
    numbers = pa.array(range(n))
    table = pa.table({"b": cells, "c": numbers, "a": numbers})
    expected = [digest(a=encode(i), b=encode(v.as_py()), c=encode(i)) for i, v in enumerate(cells)]
    assert hashes(table) == expected
    assert hashes(table.select(["a", "c", "b"])) == expected
    chunked = pa.concat_tables(table.slice(i, step) for i in range(0, n, step))
    assert hashes(chunked) == expected
    assert hashes(pa.concat_tables([table, table]).slice(n)) == expected


def test_tables_longer_than_a_block_are_hashed_in_order() -> None:
    table = pa.table({"a": pa.array(range(70_000))})
    found = hashes(table)
    assert len(set(found)) == 70_000
    for i in (0, 65_535, 65_536, 69_999):
        assert found[i] == digest(a=b"i" + struct.pack(">q", i))


def test_no_rows_have_no_hashes() -> None:
    assert hashes(pa.table({"a": pa.array([], pa.string())})) == []


def test_a_row_is_its_keys_hash_and_its_number_among_equals() -> None:
    batch = pa.record_batch({"id": [1, 2, 1], "x": ["a", "b", "c"]})
    by_key = Identity(["id"]).of(batch).to_pylist()
    one, two = (digest(id=encode(i)).hex() for i in (1, 2))
    assert by_key == [f"{one}-0", f"{two}-0", f"{one}-1"]
    by_cells = Identity().of(batch).to_pylist()
    assert by_cells == [
        digest(id=encode(i), x=encode(x)).hex() + "-0" for i, x in [(1, "a"), (2, "b"), (1, "c")]
    ]


def test_white_space_around_text_does_not_change_a_row() -> None:
    plain = Identity().of(pa.record_batch({"x": ["a b", ""]})).to_pylist()
    padded = Identity().of(pa.record_batch({"x": [" a b\t", "\u00a0 "]})).to_pylist()
    assert plain == padded


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), max_size=120),
    st.lists(st.integers(0, 120), max_size=8).map(sorted),
)
def test_occurrences_are_counted_across_batches(values: list[int], cuts: list[int]) -> None:
    identity, found = Identity(), []
    bounds = [0, *(min(cut, len(values)) for cut in cuts), len(values)]
    for start, stop in pairwise(bounds):
        found += identity.of(
            pa.record_batch({"x": pa.array(values[start:stop], pa.int64())})
        ).to_pylist()
    expected = [f"{digest(x=encode(v)).hex()}-{values[:i].count(v)}" for i, v in enumerate(values)]
    assert found == expected


def test_occurrences_are_counted_across_many_batches() -> None:
    identity = Identity()
    seen: dict[int, int] = {}
    rng = np.random.default_rng(0)
    for _ in range(40):
        values = rng.integers(0, 3000, int(rng.integers(1, 600)))
        rows = identity.of(pa.record_batch({"x": values})).to_pylist()
        for value, row in zip(values.tolist(), rows, strict=True):
            assert row.partition("-")[2] == str(seen.get(value, 0))
            seen[value] = seen.get(value, 0) + 1
