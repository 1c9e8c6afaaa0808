from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skops.io import dumps

from etl_ml.deploy import champion, incumbent, open_package
from etl_ml.deploy.deploy import Deployment
from etl_ml.deploy.package import UnreadablePackage, pack, registry_folder
from etl_ml.deploy.requirements import requirements
from etl_ml.deploy.signature import signature
from etl_ml.lake import Lake, Log, open_lake
from etl_ml.lake.estimator import UntrustedModel, dump_estimator
from etl_ml.train import load_model
from etl_ml.transform import rows_of
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.models import answering, run, versions
from etl_ml_tests.project import ATTRIBUTES, loans
from etl_ml_tests.train.stages import judge

FILES = {
    "model.skops",
    "model.onnx",
    "onnx_report.json",
    "preprocessor.json",
    "signature.json",
    "profile.json",
    "evaluation_report.json",
    "model_card.md",
    "requirements.txt",
}


@pytest.fixture
def after(deployed: tuple[Path, Deployment], tmp_path: Path) -> Lake:
    shutil.copytree(deployed[0], tmp_path / "copy")
    return open_lake(tmp_path / "copy")


def package_folder(lake: Lake) -> Path:
    return Path(lake.url) / "loans" / "registry" / "models" / "0000000001"


def test_a_deployed_model_is_champion_and_its_package_is_whole(
    deployed: tuple[Path, Deployment],
) -> None:
    home, done = deployed
    lake = open_lake(home)
    package = champion(lake, "loans")
    assert package is not None
    assert done.report is not None
    assert (done.skipped, done.problem) == ((), None)
    target = done.report["targets"][0]
    assert (done.report["version"], done.report["champion"]) == ("0000000001", True)
    assert target["verified"] is True
    assert target["max_abs_difference"] <= 1e-6
    manifest = json.loads((package_folder(lake) / "manifest.json").read_bytes())
    assert {entry["path"] for entry in manifest["files"]} == FILES
    for entry in manifest["files"]:
        data = (package_folder(lake) / entry["path"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    expected = dict.fromkeys(
        ("raw_data", "validated_data", "clean_data", "transformed_arrays"), "0000000001"
    )
    assert manifest["lineage"] == expected
    (entry,) = Log(lake, "loans").entries()
    assert (entry.version, entry.run_id, entry.compared) == ("0000000001", "run", False)


def test_the_package_answers_as_the_model_in_training(deployed: tuple[Path, Deployment]) -> None:
    lake = open_lake(deployed[0])
    package, made = open_package(lake, "loans", "0000000001"), versions(lake)
    rows = rows_of(
        made["clean_data"].table.scan(), made["transformed_arrays"].read("test_rows.npy")
    )
    expected = load_model(made["trained_model"]).predict_proba(rows)
    assert np.array_equal(package.model.predict_proba(rows), expected)
    told = json.loads(package.read("signature.json"))
    assert [entry["name"] for entry in told["inputs"]] == ["age", "income", "country", "opened"]
    assert told["output"]["classes"] == [0, 1]
    assert np.allclose(told["sample"]["probabilities"], expected[:20], atol=1e-12)
    assert len(told["sample"]["rows"]) == 20


def test_the_requirements_are_exact_versions_of_what_the_model_is_made_of(
    deployed: tuple[Path, Deployment],
) -> None:
    stored = versions(open_lake(deployed[0]))["trained_model"].read("model.skops")
    lines = requirements(stored, ["onnxruntime"]).splitlines()
    names = [line.partition("==")[0] for line in lines]
    for line in lines:
        name, _, version = line.partition("==")
        assert metadata.version(name) == version
    assert {"etl_ml", "scikit-learn", "onnxruntime"} <= set(names)
    assert "xgboost-cpu" not in names
    assert "pandas" not in names


def test_a_challenger_learns_what_the_champion_was_trained_on(
    deployed: tuple[Path, Deployment],
) -> None:
    lake = open_lake(deployed[0])
    known = incumbent(lake, make_pipeline())
    assert known is not None
    rows = versions(lake)["transformed_arrays"].read("train_rows.npy")
    assert known.trained_on.tolist() == rows.tolist()
    (entry,) = Log(lake, "loans").entries()
    assert known.history == (entry.value,)
    other = incumbent(lake, make_pipeline(training={"metric": "roc_auc"}))
    assert other is not None
    assert other.history == ()


def test_a_flipped_byte_is_refused_before_anything_is_parsed(
    after: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = package_folder(after) / "model.skops"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    parsed: list[object] = []
    module = sys.modules["etl_ml.train.trusted"]
    monkeypatch.setattr(module, "load_estimator", lambda *a, **k: parsed.append(a))
    with pytest.raises(UnreadablePackage, match="not the file that was packed"):
        _ = open_package(after, "loans", "0000000001").model
    assert parsed == []


class Intruder:
    """What a package must never bring to life."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("intruder"),))


@pytest.mark.parametrize("kind", ["pickle", "foreign type"])
def test_a_pickle_or_a_foreign_type_is_refused_though_its_hash_is_right(
    after: Lake, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model: Any = Intruder() if kind == "pickle" else io.StringIO
    data = pickle.dumps(model) if kind == "pickle" else dumps(model)
    (package_folder(after) / "model.skops").write_bytes(data)
    path = package_folder(after) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    for entry in manifest["files"]:
        if entry["path"] == "model.skops":
            entry["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(manifest))
    with pytest.raises(UntrustedModel):
        _ = open_package(after, "loans", "0000000001").model
    assert not (tmp_path / "intruder").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": 99}', '{"format": 1}', '{"format": 2, "files": []}']
)
def test_a_manifest_that_cannot_be_read_is_named(after: Lake, text: str) -> None:
    (package_folder(after) / "manifest.json").write_text(text)
    with pytest.raises(UnreadablePackage, match="no package of version 0000000001 can be read"):
        open_package(after, "loans", "0000000001")


def test_packing_twice_gives_the_same_package(lake: Lake) -> None:
    content = {"model.skops": b"m", "evaluation_report.json": {"f1": 1.0}}
    first = pack(lake, "loans", "0000000001", content, {"clean_data": "0000000001"})
    again = pack(lake, "loans", "0000000001", content, {"clean_data": "0000000001"})
    assert first.manifest == again.manifest


def test_other_content_for_a_version_is_refused_and_the_package_stays_whole(lake: Lake) -> None:
    pack(lake, "loans", "0000000001", {"model.skops": b"one"}, {})
    with pytest.raises(UnreadablePackage, match="packed already, with other content"):
        pack(lake, "loans", "0000000001", {"model.skops": b"two"}, {})
    assert open_package(lake, "loans", "0000000001").read("model.skops") == b"one"


def test_a_damaged_file_is_restored_by_packing_again(lake: Lake) -> None:
    pack(lake, "loans", "0000000001", {"model.skops": b"one"}, {})
    lake.backend.put("loans/registry/models/0000000001/model.skops", b"damaged")
    pack(lake, "loans", "0000000001", {"model.skops": b"one"}, {})
    assert open_package(lake, "loans", "0000000001").read("model.skops") == b"one"


def test_a_model_that_is_judged_again_keeps_its_package(
    after: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, 0.0)
    again = judge(after, make_pipeline(), versions(after))
    assert again["model_evaluation"].read("evaluation_report.json")["champion"] is not None
    done = run(after, again)
    assert done.report is not None
    assert len(Log(after, "loans").entries()) == 1
    package = open_package(after, "loans", "0000000001")
    assert {name: len(package.read(name)) > 0 for name in FILES} == dict.fromkeys(FILES, True)


def test_a_package_that_answers_differently_is_not_promoted(
    after: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = judge(after, make_pipeline(), versions(after, 2))
    module = sys.modules["etl_ml.deploy.deploy"]
    honest = pack

    def swapped(lake: Lake, pipeline: str, version: str, files: Any, lineage: Any) -> Any:
        model = load_model(made["trained_model"])
        model.preprocessor.learned_["age"]["center"] = 40.0
        return honest(
            lake, pipeline, version, {**files, "model.skops": dump_estimator(model)}, lineage
        )

    monkeypatch.setattr(module, "pack", swapped)
    done = run(after, made)
    assert done.report is None
    assert "answers differ from training's by up to" in (done.problem or "")
    now = champion(after, "loans")
    assert now is not None
    assert now.version == "0000000001"


@pytest.mark.parametrize("difference", [float("nan"), float("inf"), 1e-5])
def test_no_answer_is_no_right_answer(
    fresh: Lake, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    answering(monkeypatch, difference)
    done = run(fresh, versions(fresh))
    assert done.problem
    assert champion(fresh, "loans") is None


def test_a_package_that_a_fresh_process_cannot_load_is_a_problem_and_not_a_crash(
    fresh: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    done = run(fresh, versions(fresh))
    assert "a fresh process could not load it" in (done.problem or "")
    assert champion(fresh, "loans") is None


def test_a_model_that_may_not_be_deployed_leaves_nothing_behind(fresh: Lake) -> None:
    made = judge(fresh, make_pipeline(evaluation={"gates": {"f1": 1.0}}), versions(fresh))
    done = run(fresh, made)
    assert (done.report, done.problem) == (None, None)
    assert "misses its gate 1" in done.skipped[0]
    assert not (Path(fresh.url) / "loans" / "registry").exists()


def test_a_second_identical_model_is_promoted(after: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 0.0)
    made = judge(after, make_pipeline(), versions(after, 2))
    report = made["model_evaluation"].read("evaluation_report.json")
    assert (report["champion"]["passed"], report["champion"]["difference"]) == (True, 0.0)
    assert run(after, made).report is not None
    log = Log(after, "loans").entries()
    assert [(e.version, e.compared) for e in log] == [("0000000001", False), ("0000000002", True)]


def test_a_champion_that_changed_meanwhile_stays_and_judging_again_helps(
    after: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, 0.0)
    done = run(after, versions(after, 2))  # judged when there was no champion
    assert done.report is None
    assert "judged against no champion, but 0000000001 is champion by now" in done.skipped[0]
    assert len(Log(after, "loans").entries()) == 1
    again = run(after, judge(after, make_pipeline(), versions(after, 2)))
    assert again.report is not None
    assert [e.version for e in Log(after, "loans").entries()] == ["0000000001", "0000000002"]


_RIVAL = """
import sys
from etl_ml.lake import open_lake
from etl_ml_tests.deploy.models import run, versions
lake = open_lake(sys.argv[1])
done = run(lake, versions(lake, int(sys.argv[2])))
print("champion" if done.report else "skipped" if done.skipped else done.problem)
"""


def test_of_two_processes_that_deploy_at_once_one_wins_and_the_log_is_true(fresh: Lake) -> None:
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", _RIVAL, fresh.url, number], stdout=subprocess.PIPE, text=True
        )
        for number in ("1", "2")
    ]
    said = [rival.communicate(timeout=300)[0].strip() for rival in rivals]
    assert sorted(said) == ["champion", "skipped"]
    (entry,) = Log(fresh, "loans").entries()
    assert int(entry.version) == 1 + said.index("champion")


def test_the_signature_has_no_sample_where_a_feature_is_sensitive(fresh: Lake) -> None:
    made = versions(fresh)
    model = load_model(made["trained_model"])
    rows = loans(5)
    answers = model.predict_proba(rows)
    columns = ATTRIBUTES["contract"]["columns"]
    hidden = make_pipeline(
        contract={"columns": columns | {"income": {"type": "float", "sensitive": True}}}
    )
    assert signature(hidden, model, rows, answers)["sample"] is None
    shown = signature(make_pipeline(), model, rows, answers)["sample"]
    assert shown is not None
    assert [row["income"] for row in shown["rows"]] == rows["income"].to_list()


def test_a_missing_file_of_a_package_is_named(deployed: tuple[Path, Deployment]) -> None:
    package_lake = open_lake(deployed[0])
    package = open_package(package_lake, "loans", "0000000001")
    other = replace(package, folder=registry_folder(package_lake, "loans", "0000000002"))
    with pytest.raises(UnreadablePackage, match="is missing"):
        other.read("model.skops")
