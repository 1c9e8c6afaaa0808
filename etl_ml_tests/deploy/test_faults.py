"""Pushes that are killed, cross each other, or meet a target that is away, slow, full or closed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from etl_ml.deploy import Pointer, champion, open_target, promote, published
from etl_ml.lake import Lake, Log, open_lake
from etl_ml.spec.error import EtlMlError
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.killed import target_of
from etl_ml_tests.deploy.models import FIRST, SECOND, answering, run, second, versions
from etl_ml_tests.deploy.places import Place, place
from etl_ml_tests.servers.proxy import Fault, Proxy
from etl_ml_tests.train.stages import judge


@pytest.fixture(autouse=True)
def _spared(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)


@pytest.fixture
def home(settled: Path, tmp_path: Path) -> Path:
    """`lake`, whose first model is champion, and `target`, which serves it."""
    root = tmp_path / "home"
    shutil.copytree(settled, root / "lake")
    lake = open_lake(root / "lake")
    assert promote(lake, make_pipeline(), FIRST, targets=[target_of(root)]).report
    return root


def consistent(root: Path) -> str:
    """That lake and target hold together; returns the version that is served."""
    lake = open_lake(root / "lake")
    served = published(str(root / "target" / "loans")).champion()
    assert served is not None
    for name in served.files:
        served.read(name)
    now = champion(lake, "loans")
    assert now is not None
    for name in now.files:
        now.read(name)
    entries = Log(lake, "loans").entries()
    assert [int(entry.entry) for entry in entries] == list(range(1, len(entries) + 1))
    # The target is as far as the log, or one entry behind.
    assert served.version in {entry.version for entry in entries[-2:]}
    return served.version


def test_a_push_that_is_killed_before_any_of_its_writes_is_healed_by_a_repeat(
    home: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "etl_ml_tests.deploy.killed", str(home), str(tmp_path / "c")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    copies = sorted((tmp_path / "c").iterdir(), key=lambda path: int(path.name))
    # Package and manifest to the registry and to the target, a probe, the log and the pointer.
    assert len(copies) > 2 * 8 + 3
    seen = []
    for copy in copies:
        head = Log(open_lake(copy / "lake"), "loans").head()
        assert head is not None
        seen.append((consistent(copy), head.version))
        lake = open_lake(copy / "lake")
        done = run(lake, second(lake), targets=[target_of(copy)])
        assert done.report, done.problem or done.skipped
        assert consistent(copy) == SECOND
        assert [entry.version for entry in Log(lake, "loans").entries()] == [FIRST, SECOND]
        before, after = (files(c / "target/loans") for c in (copies[-1], copy))
        assert after.keys() == before.keys()
    # Nothing was served before its time, and once it was champion only the pointer was missing.
    assert set(seen[:-2]) == {(FIRST, FIRST)}
    assert seen[-2:] == [(FIRST, SECOND), (SECOND, SECOND)]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


_PUSH = """
import sys
from pathlib import Path
from etl_ml.deploy import promote
from etl_ml.lake import open_lake
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.killed import target_of
from etl_ml_tests.deploy.models import run, second, versions
home = Path(sys.argv[1])
lake, targets = open_lake(home / "lake"), [target_of(home)]
if sys.argv[2] == "deploy":
    done = run(lake, second(lake), targets=targets)
else:
    done = promote(lake, make_pipeline(), sys.argv[2], targets=targets)
print("champion" if done.report else done.problem or done.skipped)
"""


def test_two_pushes_at_once_leave_one_champion_and_a_true_log(home: Path) -> None:
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", _PUSH, str(home), what], stdout=subprocess.PIPE, text=True
        )
        for what in ("deploy", FIRST)
    ]
    said = [rival.communicate(timeout=300)[0].strip() for rival in rivals]
    assert said == ["champion", "champion"]
    log = Log(open_lake(home / "lake"), "loans").entries()
    assert [entry.version for entry in log] in ([FIRST, SECOND], [FIRST, SECOND, FIRST])
    assert consistent(home) == log[-1].version


def test_many_pointers_that_move_at_once_end_at_the_highest(home: Path) -> None:
    lake = open_lake(home / "lake")
    for _ in range(4):
        assert run(lake, second(lake)).report
        assert promote(lake, make_pipeline(), FIRST).report
    entries = Log(lake, "loans").entries()
    pointers = [Pointer(int(e.entry), e.version, e.at) for e in entries]
    threads = [threading.Thread(target=target_of(home).point, args=(p,)) for p in pointers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target_of(home).current() == pointers[-1]


@pytest.fixture(params=["s3", "azure_blob", "gcs"])
def proxied(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Place, Proxy]]:
    """A store behind a proxy, and not a minute's patience with it."""
    there = place(request.param, request, tmp_path, monkeypatch)
    server = request.getfixturevalue({"azure_blob": "azurite"}.get(request.param, request.param))
    proxy = Proxy(server.port)
    endpoint = f"http://127.0.0.1:{proxy.port}"
    if request.param == "azure_blob":
        endpoint += f"/{server.account}"
    there.section["endpoint"] = endpoint
    retries = {"max_retries": 2, "retry_timeout": timedelta(seconds=5)}
    monkeypatch.setattr("etl_ml.lake.stores._RETRIES", retries)
    monkeypatch.setattr("etl_ml.deploy.gcs._SECONDS", 3.0)
    yield there, proxy
    proxy.close()


def serve_first(lake: Lake, there: Place) -> None:
    assert promote(lake, make_pipeline(), FIRST, targets=[there.target()]).report
    assert there.version() == FIRST


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("check.json", "reset"),
        ("model.skops", "503"),
        ("manifest.json", "reset"),
        ("champions/", "503"),
    ],
)
def test_a_target_that_goes_away_at_any_step_keeps_its_champion_and_a_repeat_heals(
    proxied: tuple[Place, Proxy], ready: Lake, part: str, kind: Fault
) -> None:
    there, proxy = proxied
    serve_first(ready, there)

    size = len(there.files(FIRST))
    from_write = {"check.json": 1, "model.skops": 2, "manifest.json": 1 + size}.get(part, 2 + size)
    writes = []

    def fault(method: str, path: str) -> Fault:
        if method not in ("PUT", "POST"):
            return None
        writes.append(path)
        if there.kind == "gcs":  # Google's client names the object in the body
            return kind if len(writes) >= from_write else None
        return kind if part in urllib.parse.unquote(path) else None

    proxy.fault = fault
    done = run(ready, second(ready), targets=[there.target()])
    assert done.report is None
    told = done.problem or ""
    assert there.target().url in told
    assert f"{there.kind} target" in told
    assert there.version() == FIRST
    proxy.fault = lambda method, path: None
    late = "1 target is behind" in told
    assert late == (part == "champions/")
    assert ("The champion stays." in told) == (not late)
    assert run(ready, second(ready), targets=[there.target()]).report
    assert there.version() == SECOND
    assert [entry.version for entry in Log(ready, "loans").entries()] == [FIRST, SECOND]


def test_answers_that_are_lost_and_stalls_are_waited_for(
    proxied: tuple[Place, Proxy], ready: Lake
) -> None:
    there, proxy = proxied
    serve_first(ready, there)
    faults: list[Fault] = ["lost", 1.5, "503", "lost"]
    proxy.fault = lambda method, path: (
        faults.pop() if faults and method in ("PUT", "POST") else None
    )
    assert run(ready, second(ready), targets=[there.target()]).report
    assert not faults
    assert there.version() == SECOND


def test_a_half_way_push_names_the_target_that_is_behind_and_a_repeat_heals(
    request: pytest.FixtureRequest, ready: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [place(kind, request, tmp_path, monkeypatch) for kind in ("file", "s3", "gcs")]
    targets = [each.target() for each in places]
    assert promote(ready, make_pipeline(), FIRST, targets=targets).report
    broken = targets[1]
    point = broken.point

    def refused(pointer: Any) -> None:
        raise EtlMlError("no pointer moves today.", where=broken.url)

    broken.point = refused  # type: ignore[method-assign]
    done = run(ready, second(ready), targets=targets)
    assert done.report is None
    assert done.problem == (
        f"{SECOND} is champion, but 1 target is behind; materialize deployed_model again when it "
        f"answers.\n{broken.url}: no pointer moves today.\n  where     {broken.url}"
    )
    assert [each.version() for each in places] == [SECOND, FIRST, SECOND]

    # The next model is not deployable: what is behind is brought up all the same.
    broken.point = point  # type: ignore[method-assign]
    gates = make_pipeline(evaluation={"gates": {"f1": 1.0}})
    made = judge(ready, gates, versions(ready))
    done = run(ready, made, targets=targets)
    assert (done.report, done.problem) == (None, None)
    assert any("misses its gate 1" in reason for reason in done.skipped)
    assert f"{broken.url}: brought up to the champion, {SECOND}" in done.skipped
    assert [each.version() for each in places] == [SECOND] * 3


def test_while_approval_is_awaited_what_is_behind_is_brought_up(
    request: pytest.FixtureRequest, ready: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = place("file", request, tmp_path, monkeypatch)
    manual = make_pipeline(deployment={"approval": "manual", "targets": [there.section]})
    done = run(ready, second(ready), manual, targets=[there.target()])
    assert done.report is not None
    assert done.report["champion"] is False
    waits, healed = done.report["reasons"]
    assert waits == f"approval is manual: etl-ml promote loans {SECOND}"
    assert f"brought up to the champion, {FIRST}" in healed
    assert there.version() == FIRST
    assert there.files(SECOND).keys() == there.files(FIRST).keys()


def test_a_full_disk_is_told_and_the_champion_stays(home: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(home)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "file target: loans/models/0000000002/" in ended.stdout, ended.stderr
    assert "make room" in ended.stdout
    assert consistent(home) == FIRST
    lake = open_lake(home / "lake")
    assert run(lake, second(lake), targets=[target_of(home)]).report
    assert consistent(home) == SECOND


_FULL = """
import resource, signal, sys
from pathlib import Path
from etl_ml.deploy.deploy import _packed
from etl_ml.deploy.package import pack
from etl_ml.lake import open_lake, Run
from etl_ml.spec.error import EtlMlError
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.killed import target_of
from etl_ml_tests.deploy.models import second
home = Path(sys.argv[1])
lake = open_lake(home / "lake")
made = second(lake)
names = ("trained_model", "model_evaluation", "transformed_arrays", "clean_data")
content = _packed(lake, make_pipeline(), *(made[name] for name in names))[1]
lineage = Run(lake, "loans", "").closure("trained_model", "0000000002")
package = pack(lake, "loans", "0000000002", content, lineage)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
    target_of(home).upload(package)
except EtlMlError as error:
    print(error)
"""


def test_a_folder_that_cannot_be_written_is_told_before_any_work(ready: Lake) -> None:
    for url in ("/proc/etl_ml", "/dev/null/models"):
        section = {"type": "file", "url": url}
        (target,) = make_pipeline(deployment={"targets": [section]}).deployment.targets
        with pytest.raises(EtlMlError, match="file target: the folder cannot be made") as caught:
            open_target(target, "loans")
        assert url in str(caught.value)


def test_a_store_that_may_only_be_read_is_told_before_any_work(
    request: pytest.FixtureRequest, ready: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = place("s3", request, tmp_path, monkeypatch)
    serve_first(ready, there)
    before = there.names()
    server = request.getfixturevalue("s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.reader_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.reader_secret)
    done = run(ready, second(ready), targets=[there.target()])
    assert "the credentials are refused, or may not do this" in (done.problem or "")
    assert "s3 target: loans/check.json cannot be written" in (done.problem or "")
    assert server.reader_secret not in (done.problem or "")
    assert there.names() == before
    assert there.version() == FIRST
    assert Log(ready, "loans").head().version == FIRST  # type: ignore[union-attr]


def test_a_server_that_dies_in_the_middle_of_a_push_is_healed_when_it_is_back(
    request: pytest.FixtureRequest, ready: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = place("s3", request, tmp_path, monkeypatch)
    retries = {"max_retries": 1, "retry_timeout": timedelta(seconds=2)}
    monkeypatch.setattr("etl_ml.lake.stores._RETRIES", retries)
    serve_first(ready, there)
    server = request.getfixturevalue("s3")
    target = there.target()
    upload = target.upload

    def dying(package: Any) -> None:
        upload(package)
        server.kill()

    target.upload = dying  # type: ignore[method-assign]
    done = run(ready, second(ready), targets=[target])
    assert there.target().url.split("/")[2] in (done.problem or "")
    server.start()
    assert there.version() == FIRST
    assert run(ready, second(ready), targets=[there.target()]).report
    assert there.version() == SECOND
