"""A package answers as its model did in training, or it is not served."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl_ml.deploy import Package, open_package
from etl_ml.deploy.package import UnreadablePackage, UntrustedPackage
from etl_ml.deploy.signing import SIGNING_KEY, TRUSTED_KEYS, new_keys
from etl_ml.lake import Lake, open_lake
from etl_ml.lake.estimator import UntrustedModel
from etl_ml.serve.json_rows import read_json
from etl_ml.serve.refused import Refused
from etl_ml.serve.rows import Rows
from etl_ml.serve.scorer import Scorer, UnfitPackage
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import ATTRIBUTES, loans
from etl_ml_tests.serve.conftest import deployed
from etl_ml_tests.serve.frames import ACCOUNTS, accounts
from etl_ml_tests.serve.serving import environment

COLUMNS = ATTRIBUTES["contract"]["columns"]


def asked(frame: pl.DataFrame, scorer: Scorer) -> Rows:
    """The rows as a client writes them in JSON."""
    texts = frame.select(list(scorer.signature.inputs)).with_columns(
        pl.col(pl.Date).cast(pl.String), pl.col(pl.Datetime).dt.to_string("iso:strict")
    )
    return read_json(texts.write_json().encode(), scorer.signature, len(frame))


def check(package: Package, frame: pl.DataFrame, tolerance: float) -> Scorer:
    """All at once and one by one, the scorer answers as scikit-learn on a frame."""
    scorer = Scorer(package)
    expected = package.model.answers(frame)
    together = scorer.score(asked(frame, scorer))
    assert np.allclose(together.values, expected, rtol=tolerance, atol=tolerance)
    if scorer.signature.classes:
        assert together.predictions == package.model.predict(frame).tolist()
    for place in range(0, len(frame), 40):
        alone = scorer.score(asked(frame[place], scorer))
        assert np.allclose(alone.values[0], expected[place], rtol=tolerance, atol=tolerance)
    return scorer


KINDS: dict[str, tuple[dict[str, Any], Callable[[], pl.DataFrame], str, bool]] = {
    "two classes": ({}, loans, "onnx", True),
    "columns of every type": (ACCOUNTS, accounts, "onnx", True),
    "lightgbm": (ACCOUNTS | {"training": {"candidates": ["lightgbm"]}}, accounts, "onnx", True),
    "three classes": (
        {"target": {"column": "country"}},
        lambda: loans().with_columns(pl.col("defaulted").fill_null(0)),
        "onnx",
        True,
    ),
    "numbers": (
        {
            "target": {"column": "income", "task": "regression"},
            "training": {"folds": 3, "candidates": ["decision_tree"]},
        },
        loans,
        "onnx",
        True,
    ),
    "neighbours": (
        {"features": {"numeric": {"impute": "knn"}}, "training": {"folds": 3}},
        lambda: loans().with_columns(pl.when(pl.col("age") > 25).then(pl.col("income"))),
        "onnx",
        False,
    ),
    "a threshold": ({"training": {"threshold": {"maximize": "f1"}}}, loans, "onnx", True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_answers_as_its_estimator_on_rows_in_json(kind: str, lake: Lake) -> None:
    sections, rows, runtime, plain = KINDS[kind]
    frame = rows()
    (package,) = deployed(lake, make_pipeline(**sections), frame)
    scorer = check(package, frame[:400], 1e-6 if kind != "numbers" else 1e-4)
    assert (scorer.runtime, scorer._compiled is not None) == (runtime, plain)
    assert scorer.difference is not None


def test_without_onnx_the_estimator_itself_answers(lake: Lake, monkeypatch: Any) -> None:
    monkeypatch.setattr("etl_ml.train.onnx._NEEDED", ("no_such_library",))
    (package,) = deployed(lake, make_pipeline())
    assert "model.onnx" not in package.files
    scorer = check(package, loans()[:200], 1e-9)
    assert scorer.runtime == "skops"


def test_a_function_of_the_pipelines_own_makes_the_features(
    lake: Lake, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "serve_features.py").write_text(
        "def add(frame):\n    return frame.assign(ratio=frame['income'] / frame['age'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ETL_ML_TRUSTED_TYPES", "serve_features:add")
    pipeline = make_pipeline(features={"function": "serve_features:add"})
    (package,) = deployed(lake, pipeline)
    scorer = check(package, loans()[:200], 1e-6)
    assert scorer._compiled is None
    monkeypatch.delenv("ETL_ML_TRUSTED_TYPES")
    with pytest.raises(UntrustedModel, match="not trusted"):
        Scorer(open_package(lake, "loans", package.version))


SENSITIVE = {"contract": {"columns": COLUMNS | {"income": COLUMNS["income"] | {"sensitive": True}}}}


def test_of_a_sensitive_column_no_value_is_told(lake: Lake) -> None:
    (package,) = deployed(lake, make_pipeline(**SENSITIVE))
    scorer = check(package, loans()[:200], 1e-6)
    assert scorer.difference is None
    assert "preprocessor.json" not in package.files
    row = {"age": 30, "country": "DE", "opened": None}
    for income in ("hunter2", -271828.0, [314159]):
        body = json.dumps([row | {"income": income}]).encode()
        with pytest.raises(Refused) as refused:
            scorer.score(read_json(body, scorer.signature, 1))
        told = json.dumps(refused.value.document()) + str(refused.value)
        assert not any(secret in told for secret in ("hunter2", "271828", "314159", "0.0"))
        assert refused.value.column == "income"
    assert "min" not in next(i for i in scorer.signature.shown()["inputs"] if i["name"] == "income")


def test_serving_with_onnx_imports_neither_scikit_learn_nor_pandas(loans_lake: Path) -> None:
    program = (
        "import sys; from etl_ml.serve.server import make_app; from etl_ml.serve.source import "
        "find_source; from etl_ml.serve.settings import Settings\n"
        "make_app(find_source('loans'), Settings())\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'sklearn', 'pandas', 'scipy', 'lightgbm', 'skops', 'dagster', 'boto3', 'matplotlib'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(loans_lake),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def package_folder(lake: Path) -> Path:
    return lake / "loans" / "registry" / "models" / "0000000002"


def repacked(folder: Path, name: str, data: bytes) -> None:
    """Another file in a package, and a manifest that has its hash."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["path"] == name:
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flipped(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def edited(folder: Path, name: str, *path: Any, value: Any) -> None:
    document = json.loads((folder / name).read_text())
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    repacked(folder, name, json.dumps(document).encode())


def without_onnx(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    left_out = ("model.onnx", "preprocessor.json")
    manifest["files"] = [entry for entry in manifest["files"] if entry["path"] not in left_out]
    (folder / "manifest.json").write_text(json.dumps(manifest))


class Intruder:
    """What a package must never bring to life."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("intruder"),))


def pickled(folder: Path) -> None:
    without_onnx(folder)
    repacked(folder, "model.skops", pickle.dumps(Intruder()))


def swapped(folder: Path) -> None:
    """The model of another pipeline, of as many features, under a manifest that fits."""
    from skl2onnx import to_onnx
    from sklearn.tree import DecisionTreeClassifier

    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 8)).astype(np.float32)
    other = DecisionTreeClassifier(max_depth=3).fit(features, features[:, 0] > 0)
    model = to_onnx(other, features[:1], options={"zipmap": False})
    repacked(folder, "model.onnx", model.SerializeToString())


ATTACKS: dict[str, tuple[Callable[[Path], None], type[Exception], str]] = {
    "a flipped byte in the model": (
        lambda folder: flipped(folder, "model.onnx"), UnreadablePackage, "not the file",
    ),
    "a flipped byte in the signature": (
        lambda folder: flipped(folder, "signature.json"), UnreadablePackage, "not the file",
    ),
    "a flipped byte in what was learned": (
        lambda folder: flipped(folder, "preprocessor.json"), UnreadablePackage, "not the file",
    ),
    "a file that is gone": (
        lambda folder: (folder / "model.onnx").unlink(), UnreadablePackage, "is missing",
    ),
    "another model": (swapped, UnfitPackage, "cannot be served"),
    "no model at all": (
        lambda folder: repacked(folder, "model.onnx", b"x" * 500), UnfitPackage, "is unsound",
    ),
    "a pickle": (pickled, UntrustedModel, "not a sound skops file"),
    "other answers": (
        lambda folder: edited(
            folder, "signature.json", "sample", "probabilities", 3, value=[0.5, 0.5]
        ),
        UnfitPackage,
        "differ from training's",
    ),
    "no answer": (
        lambda folder: edited(
            folder, "signature.json", "sample", "probabilities", 3, value=[None, None]
        ),
        UnfitPackage,
        "differ from training's by up to nan",
    ),
    "another preprocessor": (
        lambda folder: edited(
            folder, "preprocessor.json", "by_column", "age", "center", value=40.0
        ),
        UnfitPackage,
        "differ from training's",
    ),
    "a preprocessor of a newer format": (
        lambda folder: edited(folder, "preprocessor.json", "format", value=99),
        UnfitPackage,
        "format 99",
    ),
    "half a preprocessor": (
        lambda folder: repacked(folder, "preprocessor.json", b'{"format": 2}'),
        UnfitPackage,
        "is unsound",
    ),
    "a preprocessor that is no JSON": (
        lambda folder: repacked(folder, "preprocessor.json", b"x"), UnfitPackage, "no JSON",
    ),
    "a contract that its sample breaks": (
        lambda folder: edited(folder, "signature.json", "inputs", 0, "min", value=99),
        UnfitPackage,
        "does not answer its own sample rows",
    ),
    "a signature without inputs": (
        lambda folder: edited(folder, "signature.json", "inputs", value=[]),
        UnfitPackage,
        "is unsound",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_package_that_is_not_what_it_was_is_refused_with_its_reason(
    own_lake: Path, attack: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    damage, error, said = ATTACKS[attack]
    damage(package_folder(own_lake))
    with pytest.raises(error, match=said) as refused:
        Scorer(open_package(open_lake(own_lake), "loans", "0000000002"))
    assert "0000000002" in str(refused.value)
    assert not (tmp_path / "intruder").exists()


def test_a_package_of_a_newer_format_is_refused(own_lake: Path) -> None:
    manifest = package_folder(own_lake) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(UnreadablePackage, match="format 99"):
        open_package(open_lake(own_lake), "loans", "0000000002")


def test_a_package_signed_by_nobody_who_is_trusted_is_refused(lake: Lake, monkeypatch: Any) -> None:
    (private, public), (_, other) = new_keys(), new_keys()
    monkeypatch.setenv(SIGNING_KEY, private)
    deployed(lake, make_pipeline())
    monkeypatch.delenv(SIGNING_KEY)
    monkeypatch.setenv(TRUSTED_KEYS, public)
    assert Scorer(open_package(lake, "loans", "0000000001")).package.signed_by == public
    monkeypatch.setenv(TRUSTED_KEYS, other)
    with pytest.raises(UntrustedPackage, match="not trusted"):
        open_package(lake, "loans", "0000000001")
