"""What a run leaves behind for those who watch: in the lake, and at a push gateway."""

from __future__ import annotations

import pytest

from etl_ml.lake.ended import read_ended
from etl_ml_tests.project import Project, attributes
from etl_ml_tests.servers.http import Http
from etl_ml_tests.servers.process import free_ports

RAW = 'key:"loans/raw_data" or key:"other/raw_data"'


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_how_long_each_asset_took_and_what_failed_is_remembered(
    project: Project, executor: str
) -> None:
    project.add()
    home = project.add(attributes(name="other", source={"path": "gone.csv"}))
    (home / "gone.csv").unlink()
    done = project.run(project.dagster_materialize(RAW), ETL_ML_EXECUTOR=executor)
    assert done.returncode == 1
    good = read_ended(project.lake, "loans", "succeeded")
    assert good is not None
    assert good.seconds["raw_data"] > 0
    # The failure of one pipeline's step is none of the other's.
    assert read_ended(project.lake, "loans", "failed") is None
    bad = read_ended(project.lake, "other", "failed")
    assert bad is not None
    assert bad.failed == ("raw_data",)
    assert bad.run_id == good.run_id
    assert read_ended(project.lake, "other", "succeeded") is None


def test_a_run_pushes_the_pipelines_that_it_touched(project: Project, http: Http) -> None:
    project.add()
    http.serve("/metrics/job/etl_ml/pipeline/loans", (200, {}, b""))
    done = project.run(
        project.dagster_materialize('key:"loans/raw_data"'), ETL_ML_PUSHGATEWAY=http.url
    )
    assert done.returncode == 0, done.stderr
    (request,) = http.requests
    assert 'etl_ml_asset_rows{asset="raw_data",pipeline="loans"} 600.0' in request.body.decode()


def test_a_gateway_that_is_down_harms_no_run(project: Project) -> None:
    project.add()
    done = project.run(
        project.dagster_materialize('key:"loans/raw_data"'),
        ETL_ML_PUSHGATEWAY=f"http://pusher:s3cr3t@127.0.0.1:{free_ports(1)[0]}",
    )
    assert done.returncode == 0
    assert "cannot be reached" in done.stderr + done.stdout
    assert "s3cr3t" not in done.stderr + done.stdout
    assert read_ended(project.lake, "loans", "succeeded") is not None
