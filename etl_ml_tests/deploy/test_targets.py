"""What every target promises, on each of them."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etl_ml.deploy import Package, Pointer, Publication, promote, published
from etl_ml.deploy.archive import NAME, pack_archive
from etl_ml.deploy.package import UnreadablePackage
from etl_ml.deploy.signing import SIGNING_KEY, TRUSTED_KEYS, UntrustedPackage, new_keys
from etl_ml.lake import Lake, Log, open_lake
from etl_ml.spec.error import EtlMlError
from etl_ml.train import load_model
from etl_ml.transform import rows_of
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.models import FIRST, SECOND, answering, run, second, versions
from etl_ml_tests.deploy.places import FOLDERS, KINDS, Place, place
from etl_ml_tests.project import Project, attributes, failure_message
from etl_ml_tests.train.stages import judge


@pytest.fixture(params=KINDS)
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place(request.param, request, tmp_path, monkeypatch)


only_folders = pytest.mark.parametrize("there", FOLDERS, indirect=True)


@pytest.fixture(autouse=True)
def _spared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the tests with assets pay for fresh processes."""
    if "project" not in request.fixturenames:
        answering(monkeypatch)


def expected(lake: Lake) -> tuple[Any, Any]:
    """Test rows, and what training answers to them."""
    made = versions(lake)
    rows = rows_of(
        made["clean_data"].table.scan(), made["transformed_arrays"].read("test_rows.npy")
    )
    return rows, load_model(made["trained_model"]).predict_proba(rows)


def pointer(lake: Lake) -> Pointer:
    head = Log(lake, "loans").head()
    assert head is not None
    return Pointer(int(head.entry), head.version, head.at)


def test_the_pipeline_deploys_there_and_what_is_served_answers_as_in_training(
    there: Place, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = new_keys()
    monkeypatch.setenv(SIGNING_KEY, private)
    project.add(attributes(deployment={"targets": [there.section]}))
    result = project.materialize()
    assert result.success, failure_message(result)
    monkeypatch.delenv(SIGNING_KEY)
    monkeypatch.setenv(TRUSTED_KEYS, public)  # as whoever serves it

    report = project.lake.read("loans", "deployed_model", "deployment_report.json")
    target, registry = report["targets"]
    assert (target["type"], target["verified"]) == (there.kind, True)
    assert registry["type"] == "registry"
    assert 0 <= target["max_abs_difference"] <= 1e-6
    found = there.champion()
    assert found is not None
    assert (found.version, found.signed_by) == (report["version"], public)
    if there.kind in FOLDERS:
        there_too = published(target["url"]).champion()
        assert there_too is not None
        assert dict(there_too.manifest) == dict(found.manifest)
        found = there_too
    rows, answers = expected(project.lake)
    assert np.abs(found.model.predict_proba(rows) - answers).max() <= 1e-12
    for secret in (*there.secrets, private):
        told = json.dumps(report) + "".join(str(event) for event in result.all_events)
        assert secret not in told


def test_the_pointer_moves_to_the_next_champion_and_back(there: Place, ready: Lake) -> None:
    assert there.target().current() is None
    assert promote(ready, make_pipeline(), FIRST, targets=[there.target()]).report
    assert there.target().current() == pointer(ready) == Pointer(1, FIRST, pointer(ready).at)
    assert run(ready, second(ready), targets=[there.target()]).report
    assert there.version() == SECOND
    assert there.target().current() == pointer(ready)
    assert promote(ready, make_pipeline(), FIRST, targets=[there.target()]).report
    assert there.version() == FIRST
    assert there.target().current() == pointer(ready) == Pointer(3, FIRST, pointer(ready).at)
    for version in (FIRST, SECOND):
        registry = ready.backend.get(f"loans/registry/models/{version}/manifest.json")
        assert there.files(version)["manifest.json"] == registry


def test_a_deployment_that_is_repeated_changes_nothing(there: Place, fresh: Lake) -> None:
    target = there.target()
    assert run(fresh, versions(fresh), targets=[target]).report
    before = {name: there.read(name) for name in there.names()}
    again = judge(fresh, make_pipeline(), versions(fresh))
    assert run(fresh, again, targets=[target]).report
    assert {name: there.read(name) for name in there.names()} == before
    assert len(Log(fresh, "loans").entries()) == 1


def test_a_later_champion_is_never_replaced_by_a_push_that_was_slow(
    there: Place, ready: Lake
) -> None:
    assert promote(ready, make_pipeline(), FIRST, targets=[there.target()]).report
    slow = pointer(ready)
    assert run(ready, second(ready), targets=[there.target()]).report
    there.target().point(slow)
    assert there.version() == SECOND
    assert there.target().current() == pointer(ready)


Files = dict[str, bytes]


def flipped(files: Files) -> dict[str, bytes | None]:
    data = bytearray(files["model.skops"])
    data[len(data) // 2] ^= 1
    return {"model.skops": bytes(data)}


def unsigned(files: Files) -> dict[str, bytes | None]:
    return {"manifest.sig": None}


def missing(files: Files) -> dict[str, bytes | None]:
    return {"profile.json": None}


def with_model(files: Files, data: bytes, **changed: Any) -> dict[str, bytes | None]:
    """Another model, whose hash is that of the manifest."""
    manifest = json.loads(files["manifest.json"]) | changed
    for entry in manifest["files"]:
        if entry["path"] == "model.skops":
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {"model.skops": data, "manifest.json": json.dumps(manifest).encode()}


def swapped(files: Files) -> dict[str, bytes | None]:
    archive = zipfile.ZipFile(io.BytesIO(files["model.skops"]))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as other:
        for name in archive.namelist():
            data = archive.read(name)
            other.writestr(name, data.replace(b"0.5", b"0.6") if name == "schema.json" else data)
    return with_model(files, out.getvalue())


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("intruder"),))


def pickled(files: Files) -> dict[str, bytes | None]:
    return with_model(files, pickle.dumps(Intruder()))


def newer(files: Files) -> dict[str, bytes | None]:
    return with_model(files, files["model.skops"], format=99)


def older(files: Files) -> dict[str, bytes | None]:
    return with_model(files, files["model.skops"], format=1)


def by_a_stranger(files: Files) -> dict[str, bytes | None]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from etl_ml.deploy.signing import _public, _text

    key = Ed25519PrivateKey.generate()
    said = _text(key.sign(files["manifest.json"]))
    document = {"algorithm": "Ed25519", "key": _public(key), "signature": said}
    return {"manifest.sig": json.dumps(document).encode()}


def named(value: Any) -> str:
    return getattr(value, "__name__", "")


ATTACKS: list[tuple[Callable[[Files], dict[str, bytes | None]], str]] = [
    (flipped, "not the file that was packed"),
    (missing, "is missing"),
    (unsigned, "is not signed, and a key is configured"),
    (by_a_stranger, "signed with a key that is not trusted here"),
    (swapped, "signature is not of its manifest"),
    (pickled, "signature is not of its manifest"),
    (newer, "install a newer etl_ml"),
    (older, "train and deploy again"),
]


@pytest.mark.parametrize(("attack", "told"), ATTACKS, ids=named)
def test_what_is_changed_on_the_way_is_refused_and_the_champion_stays(
    there: Place,
    ready: Lake,
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[Files], dict[str, bytes | None]],
    told: str,
) -> None:
    monkeypatch.setenv(SIGNING_KEY, new_keys()[0])
    pack_again(ready)
    assert promote(ready, make_pipeline(), FIRST, targets=[there.target()]).report
    target = there.target()
    upload = target.upload

    def attacked(package: Package) -> None:
        upload(package)
        there.change(SECOND, attack(there.files(SECOND)))

    monkeypatch.setattr(target, "upload", attacked)
    done = run(ready, second(ready), targets=[target])
    assert done.report is None
    assert told in (done.problem or ""), done.problem
    assert SECOND in (done.problem or "")
    assert there.version() == FIRST
    assert [entry.version for entry in Log(ready, "loans").entries()] == [FIRST]


def pack_again(lake: Lake) -> None:
    """So that the champion's package is signed, too."""
    assert run(lake, versions(lake)).report


def read_all(publication: Publication) -> None:
    package = publication.champion()
    assert package is not None
    for name in package.files:
        package.read(name)


@pytest.mark.parametrize("attack", [swapped, pickled])
def test_without_keys_too_another_model_on_the_way_is_refused(
    there: Place, ready: Lake, attack: Callable[[Files], dict[str, bytes | None]]
) -> None:
    target = there.target()
    upload = target.upload

    def attacked(package: Package) -> None:
        upload(package)
        there.change(SECOND, attack(there.files(SECOND)))

    target.upload = attacked  # type: ignore[method-assign]
    done = run(ready, second(ready), targets=[target])
    assert f"version {SECOND} at the {there.kind} target is another package" in (done.problem or "")
    assert there.version() is None


@only_folders
@pytest.mark.parametrize(("attack", "told"), ATTACKS, ids=named)
def test_what_is_changed_after_the_push_is_refused_by_whoever_serves_it(
    there: Place,
    fresh: Lake,
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[Files], dict[str, bytes | None]],
    told: str,
) -> None:
    private, public = new_keys()
    monkeypatch.setenv(SIGNING_KEY, private)
    target = there.target()
    assert run(fresh, versions(fresh), targets=[target]).report
    monkeypatch.delenv(SIGNING_KEY)
    monkeypatch.setenv(TRUSTED_KEYS, public)
    there.change(FIRST, attack(there.files(FIRST)))
    with pytest.raises((UnreadablePackage, UntrustedPackage), match=told):
        read_all(published(target.url))


def test_damaged_files_of_the_champion_are_restored_by_deploying_it_again(
    there: Place, fresh: Lake
) -> None:
    target = there.target()
    assert run(fresh, versions(fresh), targets=[target]).report
    whole = there.files(FIRST)
    there.change(FIRST, flipped(whole) | {"signature.json": None})
    assert promote(fresh, make_pipeline(), FIRST, targets=[target]).report
    assert there.files(FIRST) == whole


def test_a_lake_that_is_not_the_targets_is_refused_before_anything_is_touched(
    there: Place, ready: Lake, judged: Path, tmp_path: Path
) -> None:
    assert promote(ready, make_pipeline(), FIRST, targets=[there.target()]).report
    assert run(ready, second(ready), targets=[there.target()]).report
    before = {name: there.read(name) for name in there.names()}
    other = copy_of(judged, tmp_path / "other")
    log = Log(other, "loans")
    for number in (1, 2):
        made = judge(other, make_pipeline(), versions(other, number))
        with pytest.raises(EtlMlError, match="another lake publishes there") as caught:
            run(other, made, targets=[there.target()])
        assert there.target().url in str(caught.value)
        assert len(log.entries()) == number - 1
        assert run(other, made).report
    # By now it has the same versions under the same entries.
    with pytest.raises(EtlMlError, match="another lake publishes there"):
        promote(other, make_pipeline(), FIRST, targets=[there.target()])
    assert {name: there.read(name) for name in there.names()} == before
    assert there.version() == SECOND


def test_another_lakes_package_under_the_same_version_is_never_overwritten(
    there: Place, fresh: Lake
) -> None:
    target = there.target()
    foreign = {"manifest.json": b'{"format": 2}', "model.skops": b"another"}
    if there.kind == "sagemaker":
        there.write(f"loans/models/{FIRST}/{NAME}", pack_archive(foreign))
    else:
        there.change(FIRST, {**foreign})
    done = run(fresh, versions(fresh), targets=[target])
    assert "is another package" in (done.problem or "")
    assert there.files(FIRST) == foreign
    assert Log(fresh, "loans").head() is None


def copy_of(judged: Path, to: Path) -> Lake:
    shutil.copytree(judged, to)
    return open_lake(to)
