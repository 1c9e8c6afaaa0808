"""Every example loads as it is, in a project of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest
import yaml

from etl_ml_tests.project import Project

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*/defs.yaml"))


def test_there_is_one_for_each_source_and_each_destination() -> None:
    attributes = [yaml.safe_load(path.read_text())["attributes"] for path in EXAMPLES]
    sources = {one["source"]["type"] for one in attributes}
    assert sources == {"file", "mongodb", "sql", "rest_api", "dynamodb", "kafka", "kinesis"}
    destinations = {to["type"] for one in attributes for to in one.get("load", [])}
    assert destinations == {"file", "mongodb", "sql", "dynamodb"}


def test_there_is_one_for_each_target_in_a_cloud_and_for_ones_of_your_own() -> None:
    attributes = [yaml.safe_load(path.read_text())["attributes"] for path in EXAMPLES]
    targets = [to for one in attributes for to in one.get("deployment", {}).get("targets", [])]
    assert {to["type"] for to in targets} == {
        *("s3", "azure_blob", "gcs", "sagemaker", "azure_ml"),
        *("http_registry:HttpRegistry", "cloud_run:CloudRun"),
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_loads(example: Path, project: Project) -> None:
    shutil.copytree(example.parent, project.package / "defs" / example.parent.name)
    name = yaml.safe_load(example.read_text())["attributes"]["name"]
    with project.loaded() as defs:
        assert dg.AssetKey([name, "raw_data"]) in defs.resolve_all_asset_keys()
        assert defs.resolve_job_def(f"{name}_job")
