"""`etl-ml show` and `etl-ml models`, as a person and as a program use them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from etl_ml_tests.orchestration.test_component import ASSETS
from etl_ml_tests.project import Project


def test_show_tells_the_whole_story_on_one_page(demo: Project) -> None:
    done = demo.command("etl-ml", "show", "phishing")
    assert done.returncode == 0
    assert done.stderr == ""
    for asset in ASSETS:
        assert asset in done.stdout
    for told in ("Leaderboard", "random_forest", "95 % interval", "May be deployed.", "champion"):
        assert told in done.stdout
    assert str(demo.root / ".etl_ml" / "lake") in done.stdout


def test_show_as_json_is_every_report_of_the_latest_versions(demo: Project) -> None:
    document = json.loads(demo.command("etl-ml", "show", "phishing", "--json").stdout)
    assert list(document) == list(ASSETS)
    for asset, shown in document.items():
        version = demo.lake.open("phishing", asset)
        assert shown["version"] == version.version
        for file in version.manifest.files:
            if file.path.endswith(".json"):
                assert shown[file.path] == version.read(file.path)


@pytest.mark.parametrize("asset", ASSETS)
def test_show_has_a_page_for_every_asset(demo: Project, asset: str) -> None:
    done = demo.command("etl-ml", "show", "phishing", asset, "--version", "1")
    assert done.returncode == 0, done.stderr
    assert f"phishing/{asset} 0000000001" in done.stdout
    assert demo.lake.open("phishing", asset).manifest.run_id in done.stdout


def test_models_shows_who_is_champion_and_why(demo: Project) -> None:
    done = demo.command("etl-ml", "models", "phishing")
    assert "champion" in done.stdout
    assert "2 gates passed; the first champion" in " ".join(done.stdout.split())
    document = json.loads(demo.command("etl-ml", "models", "phishing", "--json").stdout)
    assert document["champion"] == "0000000001"
    assert document["history"][0]["metric"] == "f1"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("show", "phising"), 1, ["no pipeline 'phising'", "'phishing'"]),
        (("models", "phising"), 1, ["no pipeline 'phising'", "'phishing'"]),
        (("show", "phishing", "clean"), 1, ["no asset 'clean'", "'clean_data'"]),
        (("show", "phishing", "raw_data", "--version", "7"), 1, ["no version 0000000007"]),
        (("show", "phishing", "raw_data", "--version", "x"), 2, ["'x' is not a number"]),
        (("show", "phishing", "--version", "1"), 2, ["name the asset"]),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest_right_one(
    demo: Project, arguments: tuple[str, ...], code: int, told: list[str]
) -> None:
    done = demo.command("etl-ml", *arguments)
    assert done.returncode == code
    assert done.stdout == ""
    for text in told:
        assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_lake_says_what_to_do(project: Project) -> None:
    done = project.command("etl-ml", "show", "loans")
    assert done.returncode == 1
    assert "it is empty" in done.stderr
    assert "materialize it first" in done.stderr


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, etl_ml.cli.app; "
        "heavy = {'dagster', 'polars', 'pandas', 'numpy', 'sklearn', 'pyarrow'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
