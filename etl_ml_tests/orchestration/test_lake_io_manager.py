"""Assets of one's own in the lake: every type, partitions, runs that do not mix."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import etl_ml
from etl_ml.lake import Contents, Version, open_lake
from etl_ml.lake.backend import Unreachable
from etl_ml.orchestration.arrow_storage import UnstorableColumn
from etl_ml.orchestration.lake_io_manager import LakeIOManager, MongoIOManager, WrongPartitions
from etl_ml.orchestration.values import Unstorable, decode, encode
from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.s3 import S3


@pytest.fixture
def manager(tmp_path: Path) -> LakeIOManager:
    return LakeIOManager(url=str(tmp_path / "lake"))


def there_and_back(tmp_path: Path, value: Any, wanted: Any = None) -> Any:
    version = open_lake(tmp_path / "lake").write("p", "a", encode(value, "a"))
    return decode(version, wanted)


AWKWARD = pd.DataFrame(
    {
        "when": pd.to_datetime(["2020-01-01 01:02:03.123456789", None, "1969"], format="ISO8601"),
        "zoned": pd.to_datetime(["2020-06-01", "2020-01-01", None]).tz_localize("Europe/Paris"),
        "level": pd.Categorical(["low", None, "high"], ["low", "middle", "high"], ordered=True),
        "whole": pd.array([1, None, 3], dtype="Int64"),
        "small": np.array([1, 2, 255], dtype=np.uint8),
        "large": np.array([0, 2**64 - 1, 5], dtype=np.uint64),
        "span": pd.to_timedelta(["1 days", None, "3s"]),
        "text": ["a", None, "é"],
        "nothing": [None, None, None],
        "truth": [True, False, True],
        "bytes": [b"\x00", None, b"b"],
        "day": [dt.date(2020, 1, 1), None, dt.date(1900, 1, 1)],
    },
    index=pd.MultiIndex.from_tuples([("x", 1), ("x", 1), ("y", 2)], names=["key", None]),
)


@pytest.mark.parametrize(
    "frame",
    [
        AWKWARD,
        AWKWARD.iloc[:0],
        pd.DataFrame({"a": [3, 1, 2]}, index=[5, 5, 0]),
        pd.DataFrame({1: [1.5], 2: [2.5]}),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame({"b": range(300_000)})[::-1],
    ],
    ids=["awkward", "empty", "duplicate index", "numbers as names", "no columns", "long"],
)
def test_a_pandas_frame_comes_back_with_index_types_and_order(
    tmp_path: Path, frame: pd.DataFrame
) -> None:
    found = there_and_back(tmp_path, frame)
    pd.testing.assert_frame_equal(found, frame, check_index_type=len(frame) > 0)


def test_a_polars_frame_comes_back_with_types_and_order(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "n": pl.Series([3, 1, None], dtype=pl.UInt32),
            "t": [dt.time(1, 2, 3, 4), None, dt.time(0)],
            "s": [dt.timedelta(microseconds=1), None, dt.timedelta(days=4)],
            "c": pl.Series(["b", None, "a"], dtype=pl.Categorical),
            "e": pl.Series(["y", None, "x"], dtype=pl.Enum(["x", "y", "z"])),
            "l": [["a"], [], None],
            "r": [{"x": 1}, None, {"x": 2}],
            "d": [dt.datetime(2020, 1, 1, 1, 2, 3, 456789), None, dt.datetime(1960, 1, 1)],
        }
    )
    found = there_and_back(tmp_path, frame)
    assert found.equals(frame)
    assert found.schema == frame.schema
    assert there_and_back(tmp_path, frame.lazy(), pl.LazyFrame).collect().equals(frame)


def test_a_frame_arrives_as_the_parameter_asks(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [2, 1]})
    assert there_and_back(tmp_path, frame, pl.DataFrame)["a"].to_list() == [2, 1]
    assert there_and_back(tmp_path, frame, pa.Table)["a"].to_pylist() == [2, 1]
    assert isinstance(there_and_back(tmp_path, frame, Version), Version)
    assert there_and_back(tmp_path, pl.DataFrame(frame), pd.DataFrame)["a"].tolist() == [2, 1]
    table = pa.table({"a": [2, 1]})
    assert there_and_back(tmp_path, table).equals(table)


@pytest.mark.parametrize(
    "value", [{"a": [1, 2.5, None, "é", True]}, [], "text", 3, 2.5, None, b"\x00\xff"], ids=repr
)
def test_what_json_can_hold_comes_back(tmp_path: Path, value: Any) -> None:
    assert there_and_back(tmp_path, value) == value


def test_an_array_and_an_estimator_come_back(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(there_and_back(tmp_path, array), array)
    rows = np.random.default_rng(0).normal(size=(60, 3))
    model = LogisticRegression().fit(StandardScaler().fit_transform(rows), rows[:, 0] > 0)
    found = there_and_back(tmp_path, model)
    np.testing.assert_array_equal(found.coef_, model.coef_)


class Own:
    pass


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Own(), "returned a Own"),
        ({"a": (1, 2)}, "JSON would change"),
        ({1: "a"}, "JSON would change"),
        ({"a": float("nan")}, "returned a dict"),
        (np.array([Own()], dtype=object), "an array of object"),
        ({"a": {1, 2}}, "returned a dict"),
        (lambda: 1, "returned a function"),
    ],
    ids=["object", "tuple", "keys", "nan", "objects", "set", "function"],
)
def test_what_would_need_a_pickle_or_would_change_is_refused(value: Any, told: str) -> None:
    with pytest.raises(Unstorable, match=told) as caught:
        encode(value, "the_asset")
    assert "the_asset" in str(caught.value)
    assert "return a pandas or Polars frame" in str(caught.value)


def test_columns_that_cannot_be_kept_are_named() -> None:
    with pytest.raises(Unstorable, match="a column that Arrow cannot hold") as caught:
        encode(pd.DataFrame({"mixed": [1, "a", Own()]}), "asset")
    assert "mixed" in str(caught.value)
    with pytest.raises(UnstorableColumn, match="two columns are named 'a'"):
        encode(pl.DataFrame({"a": [1], "A": [2]}), "asset")
    odd = pa.table({"odd": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    with pytest.raises(UnstorableColumn, match="'odd' is of type month_day_nano_interval"):
        encode(odd, "asset")


def run(manager: Any, *assets: Any, **options: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(list(assets), resources={"io_manager": manager}, **options)


def test_assets_hand_values_on_in_the_types_their_parameters_ask_for(
    manager: LakeIOManager,
) -> None:
    @dg.asset
    def orders() -> pd.DataFrame:
        return pd.DataFrame({"price": [3.0, 1.0]})

    @dg.asset(key_prefix=["shop", "eu.west"])
    def doubled(orders: pl.DataFrame) -> pl.DataFrame:
        return orders.with_columns(pl.col("price") * 2)

    @dg.asset(ins={"doubled": dg.AssetIn(key=["shop", "eu.west", "doubled"])})
    def total(doubled: Any, orders: Version) -> dict[str, Any]:
        return {"total": doubled["price"].sum(), "of": orders.version}

    result = run(manager, orders, doubled, total)
    assert result.output_for_node("total") == {"total": 8.0, "of": "0000000001"}
    lake = manager.lake()
    assert lake.versions("shop", "eu=2Ewest.doubled") == ["0000000001"]
    assert lake.open("assets", "total").manifest.upstream == {"orders": "0000000001"}
    (event,) = result.asset_materializations_for_node("orders")
    assert event.metadata["dagster/row_count"].value == 2
    assert event.tags is not None
    assert event.tags["dagster/data_version"]
    assert b"pickle" not in b"".join(
        lake.backend.get(e.name) or b"" for e in lake.backend.walk("assets/files/total")
    )


def test_equal_values_have_equal_data_versions(manager: LakeIOManager) -> None:
    def version_of(values: list[int]) -> str:
        @dg.asset
        def numbers() -> pl.DataFrame:
            return pl.DataFrame({"x": values, "y": [1, 2]})

        (event,) = run(manager, numbers).asset_materializations_for_node("numbers")
        assert event.tags is not None
        return str(event.tags["dagster/data_version"])

    assert version_of([1, 2]) == version_of([1, 2])
    assert version_of([1, 2]) != version_of([2, 1])


def test_a_run_reads_one_version_and_what_belongs_together(manager: LakeIOManager) -> None:
    @dg.asset
    def raw() -> int:
        return len(manager.lake().versions("assets", "raw"))

    @dg.asset
    def left(raw: int) -> int:
        # Somebody else writes while this run is going on.
        manager.lake().write("assets", "raw", Contents(files={"value.json": 99}))
        return raw

    @dg.asset
    def right(raw: int, left: int) -> list[int]:
        return [raw, left]

    assert run(manager, raw, left, right).output_for_node("right") == [0, 0]
    again = run(manager, raw, left, right, selection=[right])
    assert again.output_for_node("right") == [0, 0]  # as `left` was made from it
    run(manager, raw, left, right, selection=[raw])
    assert run(manager, raw, left, right, selection=[right]).output_for_node("right") == [0, 0]


DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05")


def partitions(kind: str, instance: dg.DagsterInstance) -> tuple[Any, str]:
    if kind == "static":
        return dg.StaticPartitionsDefinition(["a/b", "c", "a b"]), "a/b"
    if kind == "time":
        return DAYS, "2026-01-02"
    if kind == "multi":
        both = {"day": DAYS, "place": dg.StaticPartitionsDefinition(["x", "y"])}
        return dg.MultiPartitionsDefinition(both), str(
            dg.MultiPartitionKey({"day": "2026-01-03", "place": "y"})
        )
    instance.add_dynamic_partitions("customers", ["one", "two"])
    return dg.DynamicPartitionsDefinition(name="customers"), "two"


@pytest.mark.parametrize("kind", ["static", "time", "multi", "dynamic"])
def test_each_partition_has_versions_of_its_own(manager: LakeIOManager, kind: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        definition, key = partitions(kind, instance)

        @dg.asset(partitions_def=definition)
        def part(context: dg.AssetExecutionContext) -> pl.DataFrame:
            return pl.DataFrame({"key": [context.partition_key]})

        @dg.asset(partitions_def=definition)
        def after(part: pd.DataFrame) -> list[str]:
            return list(part["key"])

        result = run(manager, part, after, partition_key=key, instance=instance)
        assert result.output_for_node("after") == [key]
        run(manager, part, selection=[part], partition_key=key, instance=instance)
    lake = manager.lake()
    (place,) = [name for name in lake.backend.folders("assets/files") if name.startswith("part@")]
    assert lake.versions("assets", place) == ["0000000001", "0000000002"]


def of_days(values: Callable[[list[str]], Any]) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def days(context: dg.AssetExecutionContext) -> Any:
        return values(list(context.partition_keys))

    return days


def backfill(manager: LakeIOManager, days: Any) -> dg.ExecuteInProcessResult:
    tags = {
        "dagster/asset_partition_range_start": "2026-01-01",
        "dagster/asset_partition_range_end": "2026-01-03",
    }
    return run(manager, days, tags=tags)


def test_a_backfill_in_one_run_stores_a_value_for_each_partition(manager: LakeIOManager) -> None:
    days = of_days(lambda keys: {key: {"day": key} for key in keys})
    assert backfill(manager, days).success

    @dg.asset(partitions_def=DAYS)
    def one(days: dict[str, str]) -> Any:
        return days

    result = run(manager, days, one, selection=[one], partition_key="2026-01-02")
    assert result.output_for_node("one") == {"day": "2026-01-02"}

    @dg.asset
    def every(days: Any) -> Any:
        return days

    with pytest.raises(WrongPartitions, match=r"1 of 4 partitions .* 2026-01-04"):
        run(manager, days, every, selection=[every])

    @dg.asset(ins={"days": dg.AssetIn(metadata={"allow_missing_partitions": True})})
    def there(days: Any) -> Any:
        return sorted(days)

    result = run(manager, days, there, selection=[there])
    assert result.output_for_node("there") == ["2026-01-01", "2026-01-02", "2026-01-03"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (lambda keys: {keys[0]: 1}, "missing: 2026-01-02, 2026-01-03"),
        (lambda keys: dict.fromkeys([*keys, "2030-01-01"], 1), "unknown: 2030-01-01"),
        (lambda keys: [1, 2, 3], "3 partitions, and a list was returned"),
        (lambda keys: {**dict.fromkeys(keys, 1), keys[2]: Own()}, "returned a Own"),
    ],
    ids=["missing", "unknown", "no mapping", "one that cannot be kept"],
)
def test_a_backfill_that_returns_the_wrong_values_writes_none(
    manager: LakeIOManager, values: Any, told: str
) -> None:
    with pytest.raises((WrongPartitions, Unstorable)) as caught:
        backfill(manager, of_days(values))
    assert told in str(caught.value)
    assert manager.lake().backend.folders("assets/files") == []


def test_outputs_of_ops_are_kept_too(manager: LakeIOManager) -> None:
    @dg.op
    def make() -> pl.DataFrame:
        return pl.DataFrame({"a": [1]})

    @dg.op
    def take(frame: pd.DataFrame) -> int:
        return int(frame["a"].sum())

    @dg.job(resource_defs={"io_manager": manager})
    def both() -> None:
        take(make())

    assert both.execute_in_process().output_for_node("take") == 1


def one_and_two() -> list[Any]:
    @dg.asset
    def one() -> pd.DataFrame:
        return pd.DataFrame({"a": [1, 2]})

    @dg.asset
    def two(one: pd.DataFrame) -> int:
        return int(one["a"].sum())

    return [one, two]


def test_a_lake_in_s3_with_dagsters_own_resource(s3: S3) -> None:
    from dagster_aws.s3 import S3Resource

    def resource(secret: str) -> S3Resource:
        return S3Resource(
            endpoint_url=s3.endpoint,
            region_name=s3.region,
            aws_access_key_id=s3.key,
            aws_secret_access_key=secret,
        )

    bucket = s3.bucket()
    manager = etl_ml.S3LakeIOManager(s3=resource(s3.secret), bucket=bucket, prefix="a/b")
    assert run(manager, *one_and_two()).output_for_node("two") == 3
    keys = [o["Key"] for o in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
    assert "a/b/assets/files/two/0000000001/manifest.json" in keys
    wrong = etl_ml.S3LakeIOManager(s3=resource("wrong-secret"), bucket=bucket)
    with pytest.raises(Unreachable, match="credentials are refused") as caught:
        run(wrong, *one_and_two())
    assert "wrong-secret" not in str(caught.value)


def test_a_lake_in_azure_with_dagsters_own_resource(azurite: Azurite) -> None:
    from dagster_azure.blob import AzureBlobStorageKeyCredential, AzureBlobStorageResource

    resource = AzureBlobStorageResource(
        account_url=azurite.url, credential=AzureBlobStorageKeyCredential(key=azurite.key)
    )
    manager = etl_ml.AzureLakeIOManager(azure=resource, container=azurite.container())
    assert run(manager, *one_and_two()).output_for_node("two") == 3


def test_a_lake_in_mongodb(mongodb: MongoDB) -> None:
    manager = MongoIOManager(uri=f"{mongodb.uri}/?appName=tests", database="assets_of_mine")
    assert run(manager, *one_and_two()).output_for_node("two") == 3
    with mongodb.client() as client:
        rows = list(client["assets_of_mine"]["assets.tables.one"].find({}, {"row": 1}))
    assert sorted(row["row"]["a"] for row in rows) == [1, 2]
    secret = MongoIOManager(uri="mongodb://u:p4ssw0rd@h/", database="d")
    assert "p4ssw0rd" not in repr(secret) + secret.open().url


def test_the_default_is_the_environments_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_ML_LAKE", str(tmp_path / "there"))
    assert run(LakeIOManager(), *one_and_two()).success
    assert open_lake(tmp_path / "there").read("assets", "two", "value.json") == 3
