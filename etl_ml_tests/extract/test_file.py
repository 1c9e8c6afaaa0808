"""Which files a path names, and what is said when there is nothing to read."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from etl_ml.extract import extract
from etl_ml.spec.source import FileSource
from etl_ml_tests.extract.files import cells, read, refusal


def test_a_missing_file_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "loan.csv").write_text("a\n1\n")
    message = refusal(tmp_path, "loans.csv")
    assert f"{tmp_path / 'loans.csv'}: there is no such file" in message
    assert "loan.csv" in message
    assert "no such file" in refusal(tmp_path, "not/there.csv")


def test_an_empty_file_is_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        (tmp_path / name).touch()
        assert "the file is empty (0 bytes)" in refusal(tmp_path, name)


def test_a_folder_is_its_data_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    assert "no file matches" in refusal(tmp_path, "data/")
    (folder / "b.csv.gz").write_bytes(gzip.compress(b"a\n2\n"))
    (folder / "a.csv").write_text("a\n1\n")
    for name in ("_SUCCESS", ".hidden.csv", "README"):
        (folder / name).write_text("x")
    assert cells(tmp_path, "data") == [{"a": "1"}, {"a": "2"}]
    (folder / "c.jsonl").write_text('{"a": 3}\n')
    message = refusal(tmp_path, "data")
    assert "files of several formats: a.csv, c.jsonl" in message


def test_an_unknown_format_is_refused_and_may_be_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n1\n")
    assert "the name does not tell the format" in refusal(tmp_path, "a.txt")
    assert cells(tmp_path, "a.txt", format="csv") == [{"a": "1"}]
    (tmp_path / "a.dat.gz").write_bytes(gzip.compress(b'{"a": 1}'))
    assert cells(tmp_path, "a.dat.gz", format="jsonl") == [{"a": "1"}]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("a,b,a", "columns 'a' and 'a' have one name."),
        ("Age,age", "columns 'Age' and 'age' have one name, by case only"),
        ("a,,b", "column 2 of 3 has no name"),
        ("a, ", "column 2 of 2 has no name"),
        ("a,_etl_ml_row", "keeps for itself"),
        ("_reasons,a", "keeps for itself"),
    ],
)
def test_names_that_cannot_be_columns_are_refused(
    tmp_path: Path, header: str, problem: str
) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    assert problem in refusal(tmp_path, "a.csv")


def test_a_pattern_reads_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, row in (("b", "b,a\n4,3\n"), ("a", "a,b\n1,2\n"), ("c", "a,b\n")):
        (tmp_path / f"{name}.csv").write_text(row)
    assert cells(tmp_path, "*.csv") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    found = extract(FileSource(type="file", path="*.csv"), base=tmp_path)
    assert found.origin == tuple(str(tmp_path / f"{name}.csv") for name in "abc")


def test_files_with_other_columns_are_refused_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("a,c\n1,2\n")
    assert "2.csv: its columns differ from those of 1.csv: b, c" in refusal(tmp_path, "*.csv")


def test_a_pattern_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert "no file matches" in refusal(tmp_path, "*.csv")


def test_brackets_in_a_name_or_in_the_folders_above_are_only_a_name(tmp_path: Path) -> None:
    base = tmp_path / "[data]"
    base.mkdir()
    (base / "a[1].csv").write_text("a\n1\n")
    assert cells(base, "a[1].csv") == [{"a": "1"}]
    assert cells(base, "*.csv") == [{"a": "1"}]


def test_types_of_files_are_brought_together_or_refused(tmp_path: Path) -> None:
    for name, values in (("int", [2**60 + 1]), ("small", [1]), ("float", [0.5]), ("text", ["x"])):
        pl.DataFrame({"a": values}).write_parquet(tmp_path / f"{name}.parquet")
    assert cells(tmp_path, "[fs][lm][oa]*.parquet") == [{"a": 0.5}, {"a": 1.0}]
    assert "types differ between files" in refusal(tmp_path, "[it][ne][tx]*.parquet")
    assert "types differ between files" in refusal(tmp_path, "[fi][ln][ot]*.parquet")


def test_white_space_does_not_change_a_rows_identity(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\nx,1\ny,2\n")
    (tmp_path / "b.csv").write_text('a,b\n" x", 1 \n y,2\n')
    one, two = read(tmp_path, "a.csv"), read(tmp_path, "b.csv")
    assert one["_etl_ml_row"].to_list() == two["_etl_ml_row"].to_list()
    assert two["a"].to_list() == [" x", " y"]


def test_a_key_makes_the_identity_and_equal_keys_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,x\n1,a\n2,a\n1,b\n")
    (tmp_path / "b.csv").write_text("id,x\n2,changed\n1,c\n")
    one = read(tmp_path, "a.csv", ("id",))["_etl_ml_row"].to_list()
    two = read(tmp_path, "b.csv", ("id",))["_etl_ml_row"].to_list()
    assert (two[0], two[1]) == (one[1], one[0])
    assert one[2] == one[0].replace("-0", "-1")
    by_cells = read(tmp_path, "b.csv")["_etl_ml_row"].to_list()
    assert not set(by_cells) & set(one)


def test_rows_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\nx\nx\n")
    rows = extract(FileSource(type="file", path="a.csv"), base=tmp_path).rows
    assert [b.to_pylist() for b in rows] == [b.to_pylist() for b in rows]
