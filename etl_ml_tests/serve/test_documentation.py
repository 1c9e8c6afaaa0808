"""docs/serving.md is true: every command in it that can run here runs, and prints what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etl_ml.serve.settings import Settings
from etl_ml_tests.conftest import PHISHING
from etl_ml_tests.project import Project
from etl_ml_tests.serve.serving import Serving, serving

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
_MONITORING = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
TOKEN = "a token of the documentation"
# By heading, how the service is run that its commands ask.
ARGUMENTS = {"A shadow": ["--shadow", "1"]}
ENVIRONMENT = {"A token": {"ETL_ML_SERVE_TOKEN": TOKEN}}

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is missing: apt-get install curl"
)


@dataclass(frozen=True)
class Command:
    """A command as a person types it, and what it prints; `…` stands for anything."""

    text: str
    printed: str


def commands(heading: str) -> list[Command]:
    found: list[Command] = []
    section = PAGE.split(f"\n## {heading}\n")[1].partition("\n## ")[0]
    for block in re.findall(r"^```console\n(.*?)^```", section, re.S | re.M):
        for typed in re.split(r"^\$ ", block, flags=re.M)[1:]:
            first, *rest = typed.splitlines()
            count = next((n for n, line in enumerate(rest) if line[:2] != "> "), len(rest))
            text = "\n".join([first, *(line[2:] for line in rest[:count])])
            found.append(Command(text, "\n".join(rest[count:])))
    return found


HEADINGS = re.findall(r"^## (.+)$", PAGE, re.M)
ASKED = [heading for heading in HEADINGS if commands(heading)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    shutil.copytree(PHISHING, folder / "etl_ml" / "defs" / "phishing")
    return folder


@pytest.fixture(scope="module")
def plain(demo: Project) -> Iterator[Serving]:
    with serving(demo.lake.url, "phishing") as running:
        yield running


@pytest.fixture
def asked(request: pytest.FixtureRequest, demo: Project) -> Iterator[Serving]:
    """The service that a heading speaks of."""
    heading = request.node.callspec.params["heading"]
    arguments, extra = ARGUMENTS.get(heading, []), ENVIRONMENT.get(heading, {})
    if not arguments and not extra:
        yield request.getfixturevalue("plain")
        return
    with serving(demo.lake.url, "phishing", *arguments, extra=extra) as running:
        yield running


def run(text: str, service: Serving, folder: Path) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ETL_ML_SERVE_TOKEN": TOKEN,
    }
    done = subprocess.run(
        ["bash", "-c", text.replace("localhost:8080", f"127.0.0.1:{service.port}")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.mark.parametrize("heading", ASKED)
def test_commands_print_what_the_page_says(heading: str, asked: Serving, folder: Path) -> None:
    if not (folder / "pages.csv").exists():
        run(commands("Rows")[0].text, asked, folder)
    for command in commands(heading):
        printed = run(command.text, asked, folder)
        expected = ".*".join(map(re.escape, command.printed.split("…")))
        assert re.fullmatch(expected, printed, re.S), f"{command.text}\n{printed}"


def test_no_command_of_a_client_is_left_out() -> None:
    tried = sum("curl" in command.text for heading in ASKED for command in commands(heading))
    assert tried == PAGE.count("$ curl ") + PAGE.count("; curl ") >= 20


def test_the_client_in_python_is_answered(plain: Serving, folder: Path) -> None:
    run(commands("Rows")[0].text, plain, folder)
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    (folder / "client.py").write_text(program.replace("localhost:8080", f"127.0.0.1:{plain.port}"))
    assert run("python client.py", plain, folder) == "[1, 1]"


def test_every_setting_is_told_with_its_default() -> None:
    section = PAGE.split("\n## Settings\n")[1].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    told: dict[str, str] = {}
    for names, defaults in rows:
        for name, default in zip(names.split(", "), defaults.split(", "), strict=True):
            told[name.strip(" `-").replace("-", "_")] = default.strip(" `")
    fields = dict(Settings.model_fields)
    del fields["token"]
    shown: dict[Any, str] = {None: "", False: "off", 6 << 20: "6 MiB"}
    told["live"] = {"counted": "True"}[told.pop("no_live")]
    assert told.keys() == fields.keys()
    for name, field in fields.items():
        default = field.default
        number = f"{default:,g}" if type(default) in (int, float) else str(default)
        # A port is a name, and has no comma.
        expected = str(default) if name == "port" else shown.get(default, number)
        assert told[name] == expected, name


def test_every_metric_is_named(plain: Serving) -> None:
    text = plain.get("/metrics").body.decode()
    for name in re.findall(r"^# HELP (etl_ml_\w+)", text, re.M):
        live = name.removeprefix("etl_ml_live_")
        assert f"`{name}`" in PAGE or f"`{live}" in _MONITORING, name
