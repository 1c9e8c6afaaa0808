"""The documentation is true: the tutorial runs as it is written, and every YAML is a pipeline."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from etl_ml.spec import parse
from etl_ml.spec.template import Environment, rendered
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import ATTRIBUTES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.S | re.M)
# Of a pipeline's sections those that name no column of the contract.
_SECTIONS = {"automation", "partitions", "training", "deployment", "lake", "resources"}
# What the Makefile runs, without the installation into an environment that is this one.
_DEMO = "dagster asset materialize -m etl_ml.definitions --select group:phishing"


def blocks(page: Path, kind: str) -> list[str]:
    found = []
    for indent, language, text in _BLOCK.findall(page.read_text()):
        if language == kind:
            lines = [line.removeprefix(indent) for line in text.splitlines()]
            found.append("\n".join(lines) + "\n")
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git would give to a newcomer."""
    target = tmp_path_factory.mktemp("tutorial") / "etl_ml"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def test_the_tutorial_runs_as_it_is_written(clone: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("ETL_ML_LAKE", "DAGSTER_HOME")}
    scripts = str(Path(sys.executable).parent)
    environment |= {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(clone),
    }
    ran = 0
    for text in blocks(ROOT / "docs" / "tutorial.md", "console"):
        for line in text.splitlines():
            command = line.removeprefix("$ ")
            assert command != line, f"no command: {line}"
            if command.startswith("source "):
                continue
            command = _DEMO if command == "make demo" else command
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=clone,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            ran += 1
    assert ran >= 15
    (script,) = blocks(ROOT / "docs" / "tutorial.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "1 of them break the contract"
        in subprocess.run(
            ["bash", "-c", "etl-ml predict wine wine.csv -o again.csv"],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_whole_pipeline_in_the_documentation_is_one(page: Path) -> None:
    for text in blocks(page, "yaml"):
        document = yaml.safe_load(text)
        if isinstance(document, dict) and document.get("type") == "etl_ml.TabularPipeline":
            scope = {"env": Environment()}
            parse(rendered(document["attributes"], scope, file=page.name), file=page.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_section_in_the_documentation_is_one(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in re.findall(r"env\.(\w+)", page.read_text()):
        scheme = next((s for s in ("mongodb", "sql") if s in name.lower()), "https")
        scheme = "mysql" if scheme == "sql" else scheme
        monkeypatch.setenv(name, f"{scheme}://example.org/x")
    for text in blocks(page, "yaml"):
        document = yaml.safe_load(text)
        if isinstance(document, dict) and document.keys() <= _SECTIONS:
            scope = {"env": Environment()}
            given = rendered(document, scope, file=page.name)
            if "partitions" in given:
                day = {given["partitions"]["column"]: {"type": "date"}}
                given["contract"] = {"columns": ATTRIBUTES["contract"]["columns"] | day}
                given["source"] = {"type": "mongodb", "database": "d", "collection": "c"}
                given["source"] |= {"uri": "mongodb://localhost"}
            make_pipeline(**given)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_a_file_that_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target and not target.startswith("reference/"):  # made from the code
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_in_the_documentation_compiles(page: Path) -> None:
    for text in blocks(page, "python"):
        compile(text, str(page), "exec")


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "reference" / "commands.html").read_text()
    assert "etl-ml lake vacuum" in commands
    assert "etl-ml predict phishing new_pages.csv" in commands
    keys = (tmp_path / "reference" / "keys.html").read_text()
    assert "max_quarantined" in keys
    assert "https://fonts" not in keys  # nothing is fetched by who reads it
