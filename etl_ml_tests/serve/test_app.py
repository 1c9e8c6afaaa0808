"""Every route and every format, over a real socket."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from etl_ml.deploy import champion
from etl_ml.lake import open_lake
from etl_ml_tests.project import loans
from etl_ml_tests.serve.serving import Reply, Serving

ROWS = loans(5, seed=3).drop("defaulted")
RECORDS = json.loads(ROWS.with_columns(pl.col("opened").cast(pl.String)).write_json())
COLUMNS = {name: [row[name] for row in RECORDS] for name in ROWS.columns}
SPLIT = {"columns": ROWS.columns, "data": [list(row.values()) for row in RECORDS]}
PANDAS = pd.DataFrame(RECORDS)
TENSORS = {
    "id": "42",
    "inputs": [
        {"name": name, "datatype": kind, "shape": [5], "data": COLUMNS[name]}
        for name, kind in zip(ROWS.columns, ["INT64", "FP64", "BYTES", "BYTES"], strict=True)
    ],
}


def parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def expected(loans_lake: Path) -> np.ndarray[Any, Any]:
    """What the deployed estimator itself says."""
    package = champion(open_lake(loans_lake), "loans")
    assert package is not None
    return package.model.predict_proba(ROWS)


def check(reply: Reply, expected: np.ndarray[Any, Any]) -> None:
    assert reply.status == 200, reply.body
    assert reply.headers["model-version"] == "0000000002"
    told = reply.json
    assert np.allclose(told["probabilities"], expected, atol=1e-6)
    assert told["predictions"] == (expected[:, 1] >= 0.5).astype(int).tolist()
    assert (told["classes"], told["model"], told["version"]) == ([0, 1], "loans", "0000000002")


FORMS: dict[str, Any] = {
    "records": RECORDS,
    "rows": {"rows": RECORDS},
    "pandas records": PANDAS.to_json(orient="records").encode(),
    "pandas split": PANDAS.to_json(orient="split").encode(),
    "pandas columns": PANDAS.to_json().encode(),
    "split": SPLIT,
    "columns": COLUMNS,
    "mlflow dataframe_split": {"dataframe_split": SPLIT, "params": {}},
    "mlflow dataframe_records": {"dataframe_records": RECORDS},
    "mlflow inputs": {"inputs": COLUMNS},
    "azure ml input_data": {"input_data": SPLIT | {"index": [0, 1, 2, 3, 4]}},
    "tensorflow instances": {"instances": RECORDS, "signature_name": "serving_default"},
    "columns in another order": {"rows": [dict(reversed(row.items())) for row in RECORDS]},
    "with the target": {"rows": [row | {"defaulted": 1} for row in RECORDS]},
    "with a row's identity": {"rows": [row | {"_etl_ml_row": "x"} for row in RECORDS]},
}


@pytest.mark.parametrize("route", ["/invocations", "/score"])
@pytest.mark.parametrize("form", FORMS)
def test_json_of_every_form_has_the_answers_of_the_model(
    service: Serving, expected: np.ndarray[Any, Any], form: str, route: str
) -> None:
    check(service.post(FORMS[form], route), expected)


CSV = ROWS.write_csv().encode()
TABLES: dict[str, tuple[bytes, str]] = {
    "csv": (CSV, "text/csv"),
    "csv with a header, said": (CSV, "text/csv; charset=utf-8; header=present"),
    "csv without a header": (CSV.partition(b"\n")[2], "text/csv"),
    "csv without a header, said": (CSV.partition(b"\n")[2], "text/csv; header=absent"),
    "csv of Windows": (b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n"), "text/csv"),
    "pandas csv with its index": (PANDAS.to_csv().encode(), "text/csv"),
    "parquet": (parquet(ROWS), "application/vnd.apache.parquet"),
    "parquet as bytes": (parquet(ROWS), "application/octet-stream"),
    "parquet of pandas": (
        PANDAS.set_index(PANDAS.index + 7).to_parquet(),
        "application/x-parquet",
    ),
    "parquet with other types": (
        parquet(ROWS.with_columns(pl.col("age").cast(pl.Int8), pl.col("income").cast(pl.String))),
        "application/vnd.apache.parquet",
    ),
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_have_the_answers_of_the_model(
    service: Serving, expected: np.ndarray[Any, Any], form: str
) -> None:
    body, kind = TABLES[form]
    check(service.post(body, kind=kind), expected)


def test_one_row_and_a_thousand_have_the_same_answers(service: Serving) -> None:
    many = json.loads(loans(1_000).drop("defaulted").with_columns(
        pl.col("opened").cast(pl.String)
    ).write_json())  # fmt: skip
    together = service.post(many).json["probabilities"]
    for place in (0, 1, 500, 999):
        assert service.post([many[place]]).json["probabilities"] == [together[place]]


def test_csv_comes_back_where_it_is_asked_for(
    service: Serving, expected: np.ndarray[Any, Any]
) -> None:
    reply = service.ask(
        "POST", "/invocations", CSV, {"content-type": "text/csv", "accept": "text/csv"}
    )
    found = pl.read_csv(reply.body)
    assert reply.headers["content-type"].startswith("text/csv")
    assert found.columns == ["prediction", "probability_0", "probability_1"]
    assert np.allclose(found.select("^probability.*$").to_numpy(), expected, atol=1e-6)


def test_a_body_that_curl_sends_without_a_type_is_read(service: Serving) -> None:
    body = json.dumps(RECORDS).encode()
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        assert service.ask("POST", "/invocations", body, headers).status == 200


def test_tensors_go_in_and_come_out_by_the_open_inference_protocol(
    service: Serving, expected: np.ndarray[Any, Any]
) -> None:
    for path in ("/v2/models/loans/infer", "/v2/models/loans/versions/0000000002/infer"):
        reply = service.post(TENSORS, path)
        assert reply.status == 200, reply.body
        told = reply.json
        assert (told["model_name"], told["model_version"], told["id"]) == (
            "loans", "0000000002", "42",
        )  # fmt: skip
        labels, shares = told["outputs"]
        assert (labels["name"], labels["datatype"], labels["shape"]) == ("prediction", "INT64", [5])
        assert labels["data"] == (expected[:, 1] >= 0.5).astype(int).tolist()
        assert (shares["name"], shares["shape"]) == ("probabilities", [5, 2])
        assert np.allclose(np.reshape(shares["data"], (5, 2)), expected, atol=1e-6)


def test_tensors_may_be_nested_and_outputs_chosen(service: Serving) -> None:
    nested = {
        "inputs": [
            each | {"shape": [5, 1], "data": [[cell] for cell in each["data"]]}
            for each in TENSORS["inputs"]
        ],
        "outputs": [{"name": "probabilities"}],
    }
    told = service.post(nested, "/v2/models/loans/infer").json
    assert [output["name"] for output in told["outputs"]] == ["probabilities"]


def test_what_is_served_is_told(service: Serving, loans_lake: Path) -> None:
    version = service.get("/version").json
    assert (version["model"], version["version"]) == ("loans", "0000000002")
    assert (version["runtime"], version["signed_by"], version["shadow"]) == ("onnx", None, None)
    schema = service.get("/schema").json
    assert schema["inputs"] == [
        {"name": "age", "type": "integer", "min": 18, "max": 100},
        {"name": "income", "type": "float", "min": 0.0},
        {"name": "country", "type": "category", "allowed": ["DE", "FR", "IT"]},
        {"name": "opened", "type": "date"},
    ]
    assert schema["output"]["classes"] == [0, 1]
    about = service.get("/v2/models/loans").json
    assert (about["versions"], about["inputs"][0]) == (
        ["0000000002"],
        {"name": "age", "datatype": "INT64", "shape": [-1]},
    )
    assert service.get("/v2").json["name"] == "etl_ml"


@pytest.mark.parametrize(
    "path",
    [
        "/ping",
        "/health/live",
        "/health/ready",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/loans/ready",
        "/v2/models/loans/versions/0000000002/ready",
    ],
)
def test_probes_say_that_it_is_ready(service: Serving, path: str) -> None:
    assert service.get(path).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/invocations", 405),
        ("DELETE", "/invocations", 405),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/loans/versions/0000000001", 404),
        ("POST", "/v2/models/other/infer", 404),
    ],
)
def test_what_is_not_there_says_so_in_json(
    service: Serving, method: str, path: str, status: int
) -> None:
    reply = service.ask(method, path, b"{}" if method == "POST" else None)
    assert reply.status == status
    assert reply.json["error"]


def test_metrics_are_prometheus_and_count_what_was_done(service: Serving) -> None:
    def seen() -> tuple[float, ...]:
        return (
            service.metric("etl_ml_serve_requests_total", route="/score", status="200"),
            service.metric("etl_ml_serve_requests_total", route="/score", status="422"),
            service.metric("etl_ml_serve_rows_total"),
            service.metric("etl_ml_serve_refused_total", reason="missing_column"),
            service.metric("etl_ml_serve_request_seconds_count", route="/score"),
        )

    before = seen()
    service.post(RECORDS, "/score")
    service.post([{"age": 1}], "/score")
    after = seen()
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 5, 1, 2]
    about = {"pipeline": "loans", "version": "0000000002", "runtime": "onnx"}
    assert service.metric("etl_ml_serve_model_info", **about) == 1
    assert service.metric("process_resident_memory_bytes") > 1e7


def test_routes_that_do_not_exist_are_counted_as_one(service: Serving) -> None:
    for path in ("/a", "/b", "/v2/models/a/b/c"):
        service.get(path)
    assert service.metric("etl_ml_serve_requests_total", route="other", status="404") >= 3
    assert b'route="/a"' not in service.get("/metrics").body
