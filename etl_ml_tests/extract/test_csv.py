"""CSV as RFC 4180 has it: every cell as text, or the line that is not so."""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_ml_tests.extract.files import cells, refusal, zstd

CELL = st.text(st.sampled_from('ab ,"\n\té'), max_size=5)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
def test_what_pythons_csv_writes_comes_back_cell_for_cell(
    tmp_path: Path, rows: list[tuple[str, str]], quoting: int, end: str, bom: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows([("a", "b c"), *rows])
    encoding = "utf-8-sig" if bom else "utf-8"
    (tmp_path / "a.csv").write_bytes(text.getvalue().encode(encoding))
    found = [tuple(row.values()) for row in cells(tmp_path, "a.csv")]
    assert found == rows
    assert list(cells(tmp_path, "a.csv")[0]) == ["a", "b c"]


@pytest.mark.parametrize(
    ("data", "line", "width"),
    [
        (b"a,b\n1,2\n3\n", 3, 1),
        (b"a,b\n1,2\n3,4,5\n", 3, 3),
        (b'a,b\n"x\ny\nz",2\n3\n', 5, 1),
        (b'a,b\n"x\r\ny",2\r\n1,2\r\n3,4,5\r\n', 5, 3),
        (b'"a\nx",b\n1,2\n3,4,5\n', 4, 3),
        (b"a,b\n1,2\n\n\n3,4,5\n", 5, 3),
        (b"\xef\xbb\xbfa,b\n3\n", 2, 1),
    ],
)
def test_a_ragged_row_is_named_by_file_and_line(
    tmp_path: Path, data: bytes, line: int, width: int
) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    assert f"a.csv: line {line}: {width} cells, the header has 2" in refusal(tmp_path, "a.csv")


def test_a_ragged_row_far_down_is_named_by_its_line(tmp_path: Path) -> None:
    good = "".join(f'"{i}\n{i}",x\n' for i in range(200_000))
    (tmp_path / "a.csv").write_text("a,b\n" + good + "short\n" + good)
    assert "line 400002: 1 cells" in refusal(tmp_path, "a.csv")


def test_a_ragged_row_behind_a_very_long_cell_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1," + "x" * 300_000 + "\nshort\n")
    assert "line 3: 1 cells" in refusal(tmp_path, "a.csv")


@pytest.mark.parametrize(
    ("data", "line", "byte"),
    [
        ("a,b\n1,é\n".encode("latin-1"), 2, 6),
        ("a,é\n1,2\n".encode("latin-1"), 1, 2),
        ("a,b\nü,2\n".encode() + "1,é\n".encode("latin-1"), 3, 11),
        (b"a,b\n" + b"1,2\n" * 5000 + b"1,\xff\n", 5002, 20006),
        ("a,b\n1,2\n".encode("utf-16"), 1, 0),
    ],
)
def test_another_encoding_is_named_by_line_and_byte(
    tmp_path: Path, data: bytes, line: int, byte: int
) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    message = refusal(tmp_path, "a.csv")
    assert f"line {line}, byte {byte}: not UTF-8 (0x{data[byte]:02x})" in message


@pytest.mark.parametrize("data", ["a,b\n", "a,b", "a,b\r\n", "a,b\n\n\n", "\ufeffa,b"])
def test_a_header_alone_is_refused(tmp_path: Path, data: str) -> None:
    (tmp_path / "a.csv").write_text(data, newline="")
    assert "a header and no rows" in refusal(tmp_path, "a.csv")


def test_a_blank_first_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\na,b\n1,2\n")
    assert "the first line is blank" in refusal(tmp_path, "a.csv")


@pytest.mark.parametrize(
    "data", ['a,b\n1,"2\n3,4\n5,6\n', 'a,b\n1,"2\n3,4\n5,6', 'a,b\n1,"2\r\n3,4\r\n']
)
def test_a_quote_that_is_never_closed_does_not_swallow_the_rows_below_it(
    tmp_path: Path, data: str
) -> None:
    (tmp_path / "a.csv").write_text(data, newline="")
    assert "line 2: a quote is never closed" in refusal(tmp_path, "a.csv")


def test_a_last_cell_that_ends_in_a_line_break_is_whole(tmp_path: Path) -> None:
    for end in ("", "\n", "\r\n"):
        (tmp_path / "a.csv").write_text('a,b\n1,"x\n"' + end, newline="")
        assert cells(tmp_path, "a.csv") == [{"a": "1", "b": "x\n"}]


def long_csv() -> bytes:
    chance = random.Random(0)
    return b"a,b\n" + b"".join(b"%r,%d\n" % (chance.random(), i) for i in range(60_000))


def test_compressed_files_are_read(tmp_path: Path) -> None:
    data = long_csv()
    (tmp_path / "plain.csv").write_bytes(data)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(data))
    half = data.index(b"\n", len(data) // 2) + 1
    (tmp_path / "two.CSV.GZ").write_bytes(gzip.compress(data[:half]) + gzip.compress(data[half:]))
    zstd(tmp_path / "a.csv.zst", data)
    expected = list(csv.DictReader(io.StringIO(data.decode())))
    assert len(expected) == 60_000
    for name in ("plain.csv", "a.csv.gz", "two.CSV.GZ", "a.csv.zst"):
        assert cells(tmp_path, name) == expected


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_truncated_stream_is_named_with_the_byte_it_ends_at(tmp_path: Path, kind: str) -> None:
    name = {"gzip": "a.csv.gz", "zstd": "a.csv.zst"}[kind]
    path = tmp_path / name
    if kind == "gzip":
        path.write_bytes(gzip.compress(long_csv()))
    else:
        zstd(path, long_csv())
    size = path.stat().st_size * 2 // 3
    path.write_bytes(path.read_bytes()[:size])
    assert f"{name}: byte {size}: the {kind} stream ends too early" in refusal(tmp_path, name)


@pytest.mark.parametrize(("name", "kind"), [("a.csv.gz", "gzip"), ("a.csv.zst", "zstd")])
def test_a_name_that_promises_compression_is_held_to_it(
    tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / name).write_bytes(b"a,b\n1,2\n")
    assert f"not a sound {kind} file of 8 bytes" in refusal(tmp_path, name)
