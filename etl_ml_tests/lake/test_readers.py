"""Other tools read the tables by URL, at the Delta version that the manifest names."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from etl_ml.lake import Contents, Lake, open_lake
from etl_ml.lake.retention import vacuum
from etl_ml_tests.lake.conftest import place
from etl_ml_tests.lake.test_content import grow
from etl_ml_tests.servers.s3 import S3

EXTENSIONS = Path(duckdb.__file__).parents[1] / "duckdb_ext" / "extensions"

ROWS = pl.DataFrame(
    {
        "i": pl.Series([1, None, -3], dtype=pl.Int64),
        "small": pl.Series([1, None, -128], dtype=pl.Int8),
        "f": [0.5, None, float("inf")],
        "s": ["a", None, "é"],
        "b": [True, None, False],
        "d": [date(2026, 1, 1), None, date(1900, 1, 1)],
        "t": [datetime(2026, 1, 1, 2, 3, 4, 567890, UTC), None, datetime(1900, 1, 1, tzinfo=UTC)],
        "l": [["x", None], None, []],
        "x": [b"\x00\xff", None, b""],
    }
)


@pytest.fixture(params=["local", "s3"])
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Lake, dict[str, str], duckdb.DuckDBPyConnection]:
    """A lake, the storage options of Delta's readers, and a DuckDB that can reach it."""
    lake = open_lake(place(request.param, request, tmp_path, monkeypatch))
    database = duckdb.connect(config={"extension_directory": str(EXTENSIONS)})
    database.execute("SET TimeZone = 'UTC'")
    database.execute("LOAD delta")
    if request.param == "local":
        return lake, {}, database
    s3: S3 = request.getfixturevalue("s3")
    database.execute("LOAD httpfs")
    database.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{s3.key}', SECRET '{s3.secret}', REGION '{s3.region}', "
        f"ENDPOINT '127.0.0.1:{s3.port}', USE_SSL false, URL_STYLE 'path')"
    )
    options = {
        "aws_access_key_id": s3.key,
        "aws_secret_access_key": s3.secret,
        "aws_region": s3.region,
        "aws_endpoint_url": s3.endpoint,
        "allow_http": "true",
    }
    return lake, options, database


def of_duckdb(database: duckdb.DuckDBPyConnection, url: str, version: int) -> pl.DataFrame:
    url = url if "://" in url else f"file://{url}"
    database.execute(f"ATTACH '{url}' AS found (TYPE delta, VERSION {version})")
    rows = database.sql("SELECT * FROM found").pl()
    database.execute("DETACH found")
    return rows


def everything(lake: Lake, options: Any, database: Any, version: int) -> list[pl.DataFrame]:
    """A version's rows as each reader finds them."""
    table = lake.open("p", "a", version).manifest.table
    assert table is not None
    url, number = f"{lake.url}/{table.path}", table.delta_version
    lazy = pl.scan_delta(url, version=number, storage_options=options or None)
    delta = DeltaTable(url, version=number, storage_options=options or None)
    arrow = pl.DataFrame(pl.from_arrow(delta.to_pyarrow_table()))
    return [of_duckdb(database, url, number), lazy.collect(), arrow]


def test_every_version_of_a_table_is_read_as_it_was_written(
    stored: tuple[Lake, dict[str, str], duckdb.DuckDBPyConnection],
) -> None:
    frames = [ROWS, ROWS.head(1), ROWS.clear(), ROWS.with_columns(new=pl.lit(7)), ROWS.tail(2)]
    for frame in frames:
        stored[0].write("p", "a", Contents(frame.lazy()))
    for number, frame in enumerate(frames, 1):
        for found in everything(*stored, number):
            assert found.select(frame.columns).cast(dict(frame.schema)).equals(frame)  # type: ignore[arg-type]


def test_a_table_that_grows_is_read_at_each_of_its_versions(
    stored: tuple[Lake, dict[str, str], duckdb.DuckDBPyConnection],
) -> None:
    frame = pl.DataFrame({"x": list(range(30))})
    follow = grow(*(frame[n : n + 2] for n in range(0, 30, 2)))
    for _ in range(15):
        stored[0].write("p", "a", Contents(grow=follow))
    for number in (1, 7, 15):
        for found in everything(*stored, number):
            assert found["x"].sort().to_list() == list(range(2 * number))


def test_what_vacuum_left_is_read_from_its_checkpoint(
    stored: tuple[Lake, dict[str, str], duckdb.DuckDBPyConnection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from datetime import timedelta

    lake, options, database = stored
    for number in range(25):
        lake.write("p", "a", Contents(pl.LazyFrame({"x": [number]})))
    monkeypatch.setattr("etl_ml.lake.retention.GRACE", timedelta(0))
    vacuum(lake, "p", keep=2, older_than=timedelta(0))
    log = [e.name for e in lake.backend.walk("p/tables/a/_delta_log/")]
    assert any(name.endswith(".checkpoint.parquet") for name in log)
    lake.write("p", "a", Contents(pl.LazyFrame({"x": [25]})))
    for number in (24, 25, 26):
        for found in everything(lake, options, database, number):
            assert found["x"].to_list() == [number - 1]
    url = f"{lake.url}/p/tables/a"
    assert DeltaTable(url, storage_options=options or None).version() == 26
