"""The image's target `serve`, as far as it can be tried without an engine: its commands run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl_ml.serve import source
from etl_ml.serve.source import Pinned, find_source
from etl_ml_tests.serve import read_only
from etl_ml_tests.serve.serving import Serving, environment
from etl_ml_tests.servers.process import free_ports

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
GOOD = {"age": 30, "income": 1e4, "country": "DE", "opened": "2001-05-06"}

needs_landlock = pytest.mark.skipif(
    not read_only.is_available(), reason="Landlock is missing: boot Linux 6.2 or later"
)


def stage(name: str) -> dict[str, list[str]]:
    """A target's instructions with those of the stages that it is made of, by keyword, in order."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    place = next(i for i, line in enumerate(lines) if line.endswith(f" AS {name}"))
    base = lines[place].split()[1]
    found = stage(base) if any(line.endswith(f" AS {base}") for line in lines) else {}
    for line in lines[place + 1 :]:
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            break
        found.setdefault(keyword, []).append(rest)
    return found


SERVE = stage("serve")
ENTRYPOINT: list[str] = json.loads(SERVE["ENTRYPOINT"][-1])


def variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in SERVE["ENV"] for pair in line.split() if "=" in pair)


@contextmanager
def container(
    command: list[str], model: Path, tmp: Path, *, workers: int = 1
) -> Iterator[tuple[Serving, dict[str, str]]]:
    """What `docker run --read-only --tmpfs /tmp` starts, and the environment of it."""
    ours = {k: v for k, v in variables().items() if k.startswith(("ETL_ML_SERVE", "PYTHON"))}
    extra = ours | {
        "ETL_ML_SERVE_PORT": str(free_ports(1)[0]),
        "ETL_ML_SERVE_WORKERS": str(workers),
        "AZUREML_MODEL_DIR": str(model),
        "TMPDIR": str(tmp),
    }
    tmp.mkdir()
    program = [str(BIN / ENTRYPOINT[0]), *ENTRYPOINT[1:], *command]
    confined = [sys.executable, "-m", read_only.__name__, str(tmp), "--", *program]
    process = subprocess.Popen(
        confined,
        env=environment(None, extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Serving(process), extra
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def mounted(loans_lake: Path, tmp_path: Path) -> Path:
    """A package where Azure ML puts it: in a folder of its own below the one that is named."""
    package = loans_lake / "loans" / "registry" / "models" / "0000000002"
    shutil.copytree(package, tmp_path / "azureml-models" / "0000000002")
    return tmp_path / "azureml-models"


@needs_landlock
@pytest.mark.parametrize(
    ("command", "workers"),
    [(["serve"], 1), (json.loads(SERVE["CMD"][-1]), 2)],
    ids=["as SageMaker", "workers"],
)
def test_the_image_serves_a_mounted_package_and_writes_nothing_but_temporary_files(
    mounted: Path, tmp_path: Path, command: list[str], workers: int
) -> None:
    with container(command, mounted, tmp_path / "tmp", workers=workers) as (service, extra):
        assert service.get("/ping").status == 200
        reply = service.post([GOOD])
        assert (reply.status, reply.json["version"]) == (200, "0000000002")
        assert service.metric("etl_ml_serve_rows_total") == 1
        health = json.loads(SERVE["HEALTHCHECK"][-1].partition("CMD ")[2])
        check = [sys.executable, *health[1:]]
        assert health[0] == "python"
        done = subprocess.run(check, env=environment(None, extra), check=False)
        assert done.returncode == 0
        assert service.stop() == 0
        done = subprocess.run(check, env=environment(None, extra), capture_output=True, check=False)
        assert done.returncode == 1  # as Docker asks for: any other code is reserved
        assert "Read-only" not in service.log
        assert "Permission denied" not in service.log
    assert list((tmp_path / "tmp").iterdir()) == []


@needs_landlock
def test_what_the_test_calls_read_only_is_that(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    write = "import sys; open(sys.argv[1], 'w').write('x')"
    for path, code in ((tmp_path / "open" / "file", 0), (tmp_path / "file", 1)):
        confined = [sys.executable, "-m", read_only.__name__, str(tmp_path / "open"), "--"]
        program = [*confined, sys.executable, "-c", write, str(path)]
        done = subprocess.run(
            program, cwd=ROOT, env=environment(None), capture_output=True, check=False
        )
        assert (done.returncode, path.exists()) == (code, code == 0), done.stderr


def test_the_image_is_run_by_nobody_in_particular_and_listens_where_clouds_ask() -> None:
    user, _, group = SERVE["USER"][-1].partition(":")
    assert min(int(user), int(group)) >= 10_000
    told = variables()
    assert (told["ETL_ML_SERVE_HOST"], told["ETL_ML_SERVE_PORT"]) == ("0.0.0.0", "8080")
    assert SERVE["EXPOSE"] == ["8080"]
    assert not [name for name in told if re.search("TOKEN|SECRET|KEY|PASSWORD", name)]


def test_what_sagemaker_mounted_is_served(mounted: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("AZUREML_MODEL_DIR", raising=False)
    monkeypatch.setattr(source, "_SAGEMAKER", str(mounted / "0000000002"))
    found = find_source()
    assert isinstance(found, Pinned)
    assert found.current() == "0000000002"
