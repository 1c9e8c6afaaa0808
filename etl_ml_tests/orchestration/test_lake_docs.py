"""What docs/lake.md shows is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

import etl_ml
from etl_ml.lake import open_lake
from etl_ml_tests.lake.conftest import place
from etl_ml_tests.lake.test_readers import EXTENSIONS
from etl_ml_tests.project import Project

DOCS = Path(etl_ml.__file__).parents[1] / "docs" / "lake.md"
BLOCKS = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
EXAMPLES = {
    re.findall(r"etl_ml\.(\w+IOManager)\(", block)[0]
    + (" of partitions" if "partitions_def" in block else ""): block
    for block in BLOCKS
    if "dg.Definitions(" in block
}


def run(code: str, scope: dict[str, Any]) -> None:
    exec(compile(code, str(DOCS), "exec", dont_inherit=True), scope)


@pytest.fixture
def environment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the examples take from it."""
    told = {"ETL_ML_LAKE": str(tmp_path / "lake")}
    kind = request.node.callspec.params["name"]
    if kind.startswith("S3"):
        s3 = request.getfixturevalue("s3")
        told |= {"S3_ENDPOINT": s3.endpoint, "S3_KEY": s3.key, "S3_SECRET": s3.secret}
        told |= {"BUCKET": place("s3", request, tmp_path, monkeypatch).split("/")[2]}
    if kind.startswith("Azure"):
        azurite = request.getfixturevalue("azurite")
        told |= {"AZURE_ACCOUNT_URL": azurite.url, "AZURE_KEY": azurite.key}
        told |= {"CONTAINER": azurite.container()}
    if kind.startswith("Mongo"):
        told |= {"MONGODB_URI": request.getfixturevalue("mongodb").uri}
    for name, value in told.items():
        monkeypatch.setenv(name, value)


def test_every_io_manager_has_an_example() -> None:
    assert set(EXAMPLES) == {
        "LakeIOManager",
        "LakeIOManager of partitions",
        "S3LakeIOManager",
        "AzureLakeIOManager",
        "MongoIOManager",
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_an_io_manager_runs(name: str, environment: None) -> None:
    scope: dict[str, Any] = {"__name__": "example"}
    run(EXAMPLES[name], scope)
    defs: dg.Definitions = scope["defs"]
    job = defs.resolve_implicit_global_asset_job_def()
    if name.endswith("partitions"):
        tags = {
            "dagster/asset_partition_range_start": "2026-01-01",
            "dagster/asset_partition_range_end": "2026-01-04",
        }
        chosen = [dg.AssetKey("sales")]
        assert job.execute_in_process(asset_selection=chosen, tags=tags).success
        result = job.execute_in_process(asset_selection=[dg.AssetKey("total")])
        assert result.output_for_node("total") == 4 * 3
        return
    result = job.execute_in_process()
    assert result.success
    if name == "LakeIOManager":
        assert result.output_for_node("forecast")["ten"] == pytest.approx(19.6)
    again = job.execute_in_process(asset_selection=[dg.AssetKey("orders")])
    (event,) = again.asset_materializations_for_node("orders")
    assert event.metadata["version"].value == "0000000002"


def test_the_ways_to_read_are_as_they_are_written(
    demo: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_ML_LAKE", demo.lake.url)
    duckdb.execute(f"SET extension_directory = '{EXTENSIONS}'")
    scope: dict[str, Any] = {}
    ways = [b for b in BLOCKS if "IOManager" not in b and "spark" not in b and "AssetIn" not in b]
    assert len(ways) == 4
    for block in ways[:2]:
        run(block, scope)
    expected = open_lake().table("phishing", "clean_data").rows
    last = {}
    for block in ways[2:]:
        *before, line = block.rstrip().splitlines()
        run("\n".join(before), scope)
        last[line] = eval(line, scope)
    polars, database = last.values()
    assert polars.collect().height == len(database) == expected
