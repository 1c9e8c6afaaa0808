"""How a target is made of its section, what is published read by its URL, and what it is asked."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etl_ml.deploy import Package, Pointer, TargetError, open_package, open_target, published
from etl_ml.deploy.package import UnreadablePackage, read_package
from etl_ml.deploy.sample import Sample, sample_of
from etl_ml.deploy.verify import OtherAnswers
from etl_ml.lake import Lake, Log, open_lake
from etl_ml.lake.backend import TooLarge
from etl_ml.spec.error import EtlMlError
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.models import FIRST
from etl_ml_tests.servers.scoring import Files


def opened(section: Any) -> Any:
    (target,) = make_pipeline(deployment={"targets": [section]}).deployment.targets
    return open_target(target, "loans")


class Whole:
    """A target that has all that one needs."""

    type, url = "whole", "whole://"

    def __init__(self, pipeline: str, size: int = 1, token: str = "") -> None:
        self.pipeline, self.size = pipeline, size

    check = upload = uploaded = current = point = lambda self: None


class Half:
    type, url = "half", "half://"

    def __init__(self, pipeline: str) -> None:
        pass

    check = upload = lambda self: None


HERE = __name__


def test_a_class_gets_the_pipelines_name_and_the_other_keys() -> None:
    target = opened({"type": f"{HERE}:Whole", "size": 3})
    assert (type(target).__name__, target.pipeline, target.size) == ("Whole", "loans", 3)
    assert opened(f"{HERE}:Whole").size == 1


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (f"{HERE}:Hole", r"has no class 'Hole'(.|\n)*'Whole'"),
        (f"{HERE}:HERE", "has no class 'HERE'"),
        (f"{HERE}:opened", "has no class 'opened'"),
        ("not.there:Whole", "cannot be imported: No module named 'not'"),
        (f"{HERE}:Half", "has no uploaded, current, point"),
        ({"type": f"{HERE}:Whole", "sise": 3}, "unexpected keyword argument 'sise'"),
        ({"type": f"{HERE}:Half", "token": "hunter2"}, "unexpected keyword argument 'token'"),
    ],
)
def test_a_class_that_is_no_target_is_told(section: Any, told: str) -> None:
    with pytest.raises(TargetError, match=told) as caught:
        opened(section)
    assert "deployment.targets" in str(caught.value) or HERE in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_without_googles_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    for use in (
        lambda: opened({"type": "gcs", "url": "gs://models/x"}),
        lambda: published("gs://models/x/loans"),
    ):
        with pytest.raises(TargetError, match="google-cloud-storage is not installed") as caught:
            use()
        assert "pip install 'etl_ml[gcp]'" in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://models/loans", "https://models/loans"])
def test_what_is_no_url_of_a_target_is_told(url: str) -> None:
    with pytest.raises(EtlMlError, match="nothing is published at"):
        published(url)


def test_reading_a_folder_makes_none(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="the folder cannot be read"):
        published(str(tmp_path / "not" / "there"))
    assert list(tmp_path.iterdir()) == []
    assert published(str(tmp_path)).champion() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"entry": "x", "version": 1, "at": ""}', "\xff"])
def test_a_pointer_that_is_damaged_is_told_and_never_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "champions").mkdir()
    (tmp_path / "champions" / "0000000001.json").write_text('{"entry": 1}')
    (tmp_path / "champions" / "0000000002.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(TargetError, match=r"0000000002\.json is damaged"):
        published(str(tmp_path)).current()


def test_a_manifest_that_is_too_large_or_too_deep_is_not_parsed() -> None:
    for data in (b"[" * 100_000, b" " * (1 << 20) + b"{}"):
        files = Limited({"manifest.json": data})
        with pytest.raises(UnreadablePackage):
            read_package(files)


class Limited(Files):
    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        data = super().get(name)
        if data is not None and most is not None and len(data) > most:
            raise TooLarge(name, len(data))
        return data


def test_the_log_gives_an_entry_by_its_number(lake: Lake) -> None:
    log = Log(lake, "loans")
    made: dict[str, Any] = {"run_id": "r", "reason": "x", "metric": "f1", "value": 1.0}
    made["compared"] = False
    first = log.promote(FIRST, replaces=None, **made)
    assert (log.entry(1), log.entry(2)) == (first, None)


def test_pointers_of_two_lakes_are_not_equal() -> None:
    assert Pointer(1, FIRST, "2026-01-02T03:04:05.678+00:00") != Pointer(1, FIRST, "another")


@pytest.fixture(scope="module")
def sampled(deployed: tuple[Path, Any]) -> tuple[Package, Sample]:
    package = open_package(open_lake(deployed[0]), "loans", FIRST)
    sample = sample_of(package)
    assert sample is not None
    return package, sample


def test_a_sample_is_what_the_package_says_of_itself(sampled: tuple[Package, Sample]) -> None:
    package, sample = sampled
    said = json.loads(package.read("signature.json"))["sample"]
    assert json.loads(sample.request) == {"rows": said["rows"]}
    assert sample.expected.tolist() == said["probabilities"]
    assert sample.version == FIRST
    right = {"version": FIRST, "probabilities": said["probabilities"], "classes": [0, 1]}
    assert sample.check(json.dumps(right).encode(), where="here") == 0.0


def changed(sample: Sample, **with_: Any) -> bytes:
    right = {"version": FIRST, "probabilities": sample.expected.tolist()}
    return json.dumps(right | with_).encode()


def test_an_answer_that_is_wrong_in_any_way_is_refused(sampled: tuple[Package, Sample]) -> None:
    sample = sampled[1]
    far = sample.expected.copy()
    far[-1, 0] += 2 * sample.tolerance
    none = sample.expected.copy()
    none[0, 0] = np.nan
    wrong = {
        b"": "is not that of etl_ml's service",
        b"[]": "is not that of etl_ml's service",
        b"[" * 100_000: "is not that of etl_ml's service",
        b'{"predictions": [1]}': "is not that of etl_ml's service",
        changed(sample, probabilities="x"): "is not that of etl_ml's service",
        changed(sample, version="0000000009"): "0000000009 did",
        changed(sample, probabilities=far.tolist()): "differ from training's by up to",
        changed(sample, probabilities=none.tolist()): "by up to nan",
        changed(sample, probabilities=sample.expected[:-1].tolist()): "by up to inf",
        changed(sample, probabilities=[]): "by up to inf",
    }
    for answer, told in wrong.items():
        with pytest.raises(OtherAnswers, match=told) as caught:
            sample.check(answer, where="the endpoint")
        assert "the endpoint" in str(caught.value)
        assert len(str(caught.value)) < 500


def signed(document: dict[str, Any], **more: bytes) -> Package:
    files = {"signature.json": json.dumps(document).encode(), **more}
    entries = [{"path": name, "bytes": len(data)} for name, data in files.items()]
    for entry, data in zip(entries, files.values(), strict=True):
        entry["sha256"] = hashlib.sha256(data).hexdigest()
    manifest = {"pipeline": "loans", "version": FIRST, "lineage": {}, "files": entries}
    return Package(Files(files), manifest)


def test_a_service_that_scores_in_float32_may_be_as_far_off_as_its_onnx() -> None:
    document = {"sample": {"rows": [{"a": 1}], "probabilities": [[0.25, 0.75]]}}
    exact = sample_of(signed(document))
    loose = sample_of(signed(document, **{"onnx_report.json": b'{"tolerance": 1e-4}'}))
    none = sample_of(signed(document, **{"onnx_report.json": b'{"tolerance": null}'}))
    assert exact is not None
    assert loose is not None
    assert none is not None
    assert (exact.tolerance, loose.tolerance, none.tolerance) == (1e-6, 1e-4, 1e-6)


def test_of_numbers_the_tolerance_is_a_share_of_the_largest() -> None:
    sample = sample_of(signed({"sample": {"rows": [{}, {}], "predictions": [2000.0, -1.0]}}))
    assert sample is not None
    assert sample.tolerance == pytest.approx(2e-3)
    near = json.dumps({"version": FIRST, "predictions": [2000.001, -1.0]}).encode()
    assert sample.check(near, where="here") == pytest.approx(1e-3)


def test_a_package_without_a_sample_is_not_asked() -> None:
    assert sample_of(signed({"sample": None})) is None
