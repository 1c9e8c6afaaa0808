from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from etl_ml.lake import Lake, Log, MissingVersion
from etl_ml.report import collect, page, store
from etl_ml_tests.project import Project, attributes, failure_message, loans


class Outline(HTMLParser):
    """What a page is made of: tags, ids, links, pictures and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.pictures: list[dict[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.pictures += [found] if tag == "img" else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def test_the_page_is_whole_and_every_link_leads_somewhere(project: Project) -> None:
    project.add(attributes(evaluation={"slices": ["country"], "gates": {"f1": 0.1}}))
    for _ in range(2):
        result = project.materialize()
        assert result.success, failure_message(result)
    text = page(collect(project.lake, "loans"))
    outline = Outline(text)
    assert outline.open == []
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)
    assert len(set(outline.ids)) == len(outline.ids)
    assert {"metrics", "changes", "data", "drift", "leaderboard", "curves", "slices"} <= set(
        outline.ids
    )
    assert all(picture["alt"] for picture in outline.pictures)
    assert len(text) < 1_000_000
    assert not re.search(r"(src|href)=\"https?:", text)
    assert "nan" not in outline.text.lower().split()
    assert "Version 0000000002 is the champion" in outline.text
    report = project.lake.read("loans", "model_evaluation", "evaluation_report.json")
    assert f"{report['metrics']['test']['f1']['value']:.4f}" in outline.text


def test_every_run_leaves_its_page_in_the_lake_and_names_it(project: Project) -> None:
    project.add()
    result = project.materialize()
    stored = Path(project.lake.url) / "loans" / "runs" / result.run_id / "report.html"
    assert "is the champion" in stored.read_text()
    (event,) = [
        e.step_materialization_data.materialization
        for e in result.get_asset_materialization_events()
        if e.asset_key and e.asset_key.path[-1] == "deployed_model"
    ]
    assert event.metadata["report"].value == str(stored)


def test_a_model_that_is_not_deployed_says_why_and_who_stays(project: Project) -> None:
    project.add()
    assert project.materialize().success
    project.add(attributes(evaluation={"gates": {"f1": 1.0}}))
    assert project.materialize().success
    text = Outline(page(collect(project.lake, "loans"))).text
    assert "Not deployed: " in text
    assert "misses its gate" in text
    assert "Version 0000000001 stays champion" in text
    assert "Version 0000000001 is the champion" in page(collect(project.lake, "loans", 1))


def test_a_run_that_validation_stopped_has_a_page_of_its_own(project: Project) -> None:
    home = project.add()
    assert project.materialize().success
    lines = (home / "loans.csv").read_text().splitlines()
    broken = [line.replace(line.split(",")[0], "7", 1) for line in lines[1:200]]
    (home / "loans.csv").write_text("\n".join([lines[0], *broken, *lines[200:]]) + "\n")
    result = project.materialize()
    assert not result.success
    stored = Path(project.lake.url) / "loans" / "runs" / result.run_id / "report.html"
    text = Outline(stored.read_text()).text
    assert "Stopped at validation" in text
    assert "break the contract" in text
    assert "Version 0000000001 stays champion" in text


def test_text_from_data_is_never_markup(project: Project) -> None:
    rows = loans().with_columns(country=loans()["country"].replace("DE", "<script>x</script>"))
    columns = {**attributes()["contract"]["columns"], "country": {"type": "category"}}
    project.add(attributes(contract={"columns": columns}, evaluation={"slices": ["country"]}), rows)
    assert project.materialize().success
    text = page(collect(project.lake, "loans"))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_pipeline_that_never_ran_is_named(lake: Lake) -> None:
    with pytest.raises(MissingVersion):
        collect(lake, "loans")
    assert Log(lake, "loans").head() is None


def test_the_command_writes_the_page(project: Project, tmp_path: Path) -> None:
    project.add()
    assert project.materialize().success
    done = project.command("etl-ml", "report", "loans", "-o", str(tmp_path / "r.html"))
    assert done.returncode == 0, done.stderr
    assert "is the champion" in (tmp_path / "r.html").read_text()
    none = project.command("etl-ml", "report", "lones")
    assert none.returncode == 1
    assert "loans" in none.stderr


def test_a_model_that_waits_for_approval_says_so(project: Project) -> None:
    project.add(attributes(deployment={"approval": "manual"}))
    result = project.materialize()
    assert result.success, failure_message(result)
    stored = Path(project.lake.url) / "loans" / "runs" / result.run_id / "report.html"
    assert "waits for approval" in stored.read_text()
    assert store(project.lake, "loans", "again").endswith("loans/runs/again/report.html")
