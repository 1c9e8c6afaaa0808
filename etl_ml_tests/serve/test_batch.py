from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from etl_ml.deploy import champion, deploy
from etl_ml.deploy.package import Package
from etl_ml.lake import Lake, open_lake
from etl_ml.lake.progress import Progress
from etl_ml.load.load_error import LoadError
from etl_ml.serve import batch
from etl_ml.serve.batch import BatchScorer, Counts, score_file, score_version
from etl_ml.spec.destination import FileDestination
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.source import FileSource
from etl_ml.validate.inputs import MissingInputs
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import loans
from etl_ml_tests.train.stages import Versions, fit, judge, prepare


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Versions]:
    """A lake whose pipeline has a champion; only read it."""
    lake, pipeline = open_lake(tmp_path_factory.mktemp("batch") / "lake"), make_pipeline()
    made = judge(lake, pipeline, fit(lake, pipeline, prepare(lake, pipeline, loans())))
    done = deploy(
        lake,
        pipeline,
        made["trained_model"],
        made["model_evaluation"],
        made["transformed_arrays"],
        made["clean_data"],
    )
    assert done.report is not None
    return lake, made


@pytest.fixture(scope="module")
def package(made: tuple[Lake, Versions]) -> Package:
    found = champion(made[0], "loans")
    assert found is not None
    return found


def quiet() -> Progress:
    return Progress("Scored", None, lambda line: None)


def scored(package: Package, given: str, output: str, home: Path) -> Counts:
    return score_file(
        BatchScorer(package),
        FileSource(type="file", path=given),
        FileDestination(type="file", path=output),
        base=home,
        progress=quiet(),
    )


def test_answers_are_those_of_the_model_and_carry_version_and_row(
    made: tuple[Lake, Versions], package: Package, tmp_path: Path
) -> None:
    clean = made[1]["clean_data"]
    file, counts = score_version(
        BatchScorer(package), clean, tmp_path / "p.parquet", lambda line: None
    )
    found = file.scan().collect().sort("_etl_ml_row")
    rows = clean.table.to_polars().sort("_etl_ml_row")
    expected = package.model.predict_proba(rows)
    assert (counts.rows, counts.refused) == (600, 0)
    assert found["_etl_ml_row"].to_list() == rows["_etl_ml_row"].to_list()
    assert np.array_equal(found["probability_1"].to_numpy(), expected[:, 1])
    assert found["prediction"].to_list() == package.model.predict(rows).tolist()
    assert set(found["model_version"]) == {"0000000001"}
    assert found["reasons"].null_count() == 600


def test_a_row_that_breaks_the_contract_has_reasons_and_no_prediction(package: Package) -> None:
    rows = loans(4).with_columns(
        pl.Series("age", [30, 17, 40, 200]), pl.Series("_etl_ml_row", list("abcd"))
    )
    found = BatchScorer(package).score(rows, ["_etl_ml_row"])
    assert found["reasons"].to_list() == [None, "age: min", None, "age: max"]
    assert found["prediction"].is_null().to_list() == [False, True, False, True]
    good = rows[[0, 2]]
    expected = package.model.predict_proba(good)[:, 1]
    assert found["probability_1"].drop_nulls().to_list() == expected.tolist()


def test_no_good_row_at_all_asks_nobody(package: Package) -> None:
    rows = loans(3).with_columns(age=pl.lit(1), _etl_ml_row=pl.lit("r"))
    found = BatchScorer(package).score(rows, ["_etl_ml_row"])
    assert found["prediction"].null_count() == 3
    assert found.schema["probability_1"] == pl.Float64


@pytest.mark.parametrize("output", ["out.csv", "out.csv.gz", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("given", ["in.csv", "in.parquet", "in.jsonl"])
def test_every_format_gives_the_same_answers(
    package: Package, tmp_path: Path, given: str, output: str
) -> None:
    rows = loans(50, seed=3).with_columns(customer=pl.Series(range(50))).drop("defaulted")
    path = tmp_path / given
    {".csv": rows.write_csv, ".parquet": rows.write_parquet, ".jsonl": rows.write_ndjson}[
        path.suffix
    ](path)
    counts = scored(package, given, output, tmp_path)
    assert (counts.rows, counts.refused) == (50, 0)
    data = (tmp_path / output).read_bytes()
    data = gzip.decompress(data) if output.endswith(".gz") else data
    readers = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}
    found = readers[output.split(".")[1]](data)
    expected = package.model.predict_proba(rows)[:, 1]
    assert [int(value) for value in found["customer"]] == list(range(50))
    assert np.allclose(found["probability_1"].to_numpy(), expected, atol=1e-12)


def test_batches_give_the_answers_of_the_whole(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loans(500, seed=5).write_csv(tmp_path / "in.csv")
    scored(package, "in.csv", "whole.parquet", tmp_path)
    monkeypatch.setattr(batch, "ROWS", 7)
    scored(package, "in.csv", "parts.parquet", tmp_path)
    whole, parts = (pl.read_parquet(tmp_path / f"{n}.parquet") for n in ("whole", "parts"))
    assert whole.equals(parts)


def test_a_missing_column_is_told_before_anything_is_written(
    package: Package, tmp_path: Path
) -> None:
    loans(5).rename({"income": "incom"}).write_csv(tmp_path / "in.csv")
    with pytest.raises(MissingInputs, match="'income'"):
        scored(package, "in.csv", "out.csv", tmp_path)
    assert not (tmp_path / "out.csv").exists()


def test_a_column_with_the_name_of_an_answer_is_refused(package: Package, tmp_path: Path) -> None:
    loans(5).with_columns(prediction=pl.lit(1)).write_csv(tmp_path / "in.csv")
    with pytest.raises(EtlMlError, match="'prediction', which is an answer's"):
        scored(package, "in.csv", "out.csv", tmp_path)


def test_a_file_that_breaks_off_leaves_the_last_output_as_it_was(
    package: Package, tmp_path: Path
) -> None:
    loans(5).write_csv(tmp_path / "in.csv")
    scored(package, "in.csv", "out.csv", tmp_path)
    before = (tmp_path / "out.csv").read_bytes()
    with (tmp_path / "in.csv").open("a") as sink:
        sink.write("30,1.0,DE\n")  # a row that is cut short
    with pytest.raises(EtlMlError):
        scored(package, "in.csv", "out.csv", tmp_path)
    assert (tmp_path / "out.csv").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_an_output_that_cannot_be_written_is_named(package: Package, tmp_path: Path) -> None:
    loans(5).write_csv(tmp_path / "in.csv")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(LoadError, match=r"out\.csv cannot be written"):
        scored(package, "in.csv", "out.csv", tmp_path)


def test_the_signature_tells_how_rows_are_read(package: Package) -> None:
    said = json.loads(package.read("signature.json"))
    assert said["key"] == []
    assert said["null_values"] == ["", "na", "NA", "?"]
    age = next(entry for entry in said["inputs"] if entry["name"] == "age")
    assert (age["type"], age["min"], age["max"]) == ("integer", 18, 100)
