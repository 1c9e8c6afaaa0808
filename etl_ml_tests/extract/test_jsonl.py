"""JSON lines: every value as text, nothing rounded, the line that is not an object named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_ml_tests.extract.files import cells, refusal, zstd


def lines(path: Path, *rows: str, end: str = "\n") -> None:
    path.write_bytes("".join(f"{row}{end}" for row in rows).encode())


def test_big_integers_and_mixed_types_stay_text(tmp_path: Path) -> None:
    lines(
        tmp_path / "a.jsonl",
        '{"a": 12345678901234567890123, "b": true, "c": null, "d": "x", "e": 18446744073709551615}',
        '{"a": "x", "b": 9007199254740993, "c": 1, "d": 0.1, "e": -9223372036854775808}',
    )
    assert cells(tmp_path, "a.jsonl") == [
        {
            "a": "12345678901234567890123",
            "b": "true",
            "c": None,
            "d": "x",
            "e": "18446744073709551615",
        },
        {"a": "x", "b": "9007199254740993", "c": "1", "d": "0.1", "e": "-9223372036854775808"},
    ]


def test_objects_and_arrays_are_their_json_whatever_their_shapes(tmp_path: Path) -> None:
    values: list[Any] = [{"x": [1, None], "y": 'é"q'}, {"z": 1}, [1, "a"], [], {}]
    lines(tmp_path / "a.jsonl", *(json.dumps({"v": value}) for value in values))
    assert [json.loads(row["v"]) for row in cells(tmp_path, "a.jsonl")] == values


def test_a_column_may_begin_late_and_lines_may_be_blank(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", "", '{"a": 1}', " ", '{"b": "x"}', "")
    assert cells(tmp_path, "a.jsonl") == [{"a": "1", "b": None}, {"a": None, "b": "x"}]


def test_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", '\ufeff{"a": 1}', '{"a": "x y"}', end="\r\n")
    assert cells(tmp_path, "a.jsonl") == [{"a": "1"}, {"a": "x y"}]


def test_compressed_files_are_read(tmp_path: Path) -> None:
    data = b"".join(b'{"a": %d}\n' % i for i in range(1000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    zstd(tmp_path / "a.ndjson.zst", data)
    for name in ("a.jsonl.gz", "a.ndjson.zst"):
        assert cells(tmp_path, name) == [{"a": str(i)} for i in range(1000)]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data)[:-20])
    size = (tmp_path / "a.jsonl.gz").stat().st_size
    assert f"byte {size}: the gzip stream ends too early" in refusal(tmp_path, "a.jsonl.gz")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"a": 2}x', "not JSON"), (b'{"a": 2}{"a": 3}', "not JSON"), (b'{"a": 2', "not JSON"),
        (b"5", "5 is not an object"), (b"[1]", "[1] is not an object"), (b"null", "not an object"),
        (b'{"a": NaN}', "NaN is not a JSON number"), (b'{"a": "\xe9"}', "not UTF-8 at byte 7"),
        (b'{"a": 1e999}', "1"), (b"a,b", "not JSON"),
    ],
)  # fmt: skip
def test_a_line_that_is_not_an_object_is_named_by_its_number(
    tmp_path: Path, line: bytes, problem: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\n{"a": 1}\n' + line + b'\n{"a": 1}\n')
    message = refusal(tmp_path, "a.jsonl")
    assert "a.jsonl: line 4: " in message
    assert problem in message


def test_a_bad_line_beyond_the_first_block_is_named_by_its_number(tmp_path: Path) -> None:
    good = b'{"a": "%s"}\n' % (b"x" * 1000)
    (tmp_path / "a.jsonl").write_bytes(good * 9000 + b"oops\n" + good)
    assert "line 9001: not JSON" in refusal(tmp_path, "a.jsonl")


@pytest.mark.parametrize("data", [b"\n\n", b"{}\n{}\n", b" "])
def test_no_rows_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    assert "no rows" in refusal(tmp_path, "a.jsonl")


def test_duplicate_names_by_case_are_refused(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", '{"a": 1}', '{"A": 1}')
    assert "by case only" in refusal(tmp_path, "a.jsonl")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.none() | TEXT, st.none() | st.integers()), min_size=1, max_size=6))
def test_texts_and_integers_come_back_whole(
    tmp_path: Path, rows: list[tuple[str | None, int | None]]
) -> None:
    lines(tmp_path / "a.jsonl", *(json.dumps({"t": t, "i": i}) for t, i in rows))
    expected = [{"t": t, "i": None if i is None else str(i)} for t, i in rows]
    assert cells(tmp_path, "a.jsonl") == expected
