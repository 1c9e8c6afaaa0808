"""What an answer costs, in process and over HTTP, beside MLflow's server of the same pipeline.

    python benchmarks/serve.py [--requests N] [--repeats N]

The model: 26 numeric and 2 categorical columns, LightGBM with 100 trees. The peer is scikit-learn's
ColumnTransformer with the same model under `mlflow models serve`; beside both stands a service that
does nothing, with the same server and framework as ours. All run on this machine, in turn, in one
run; CPU seconds are the server's, user and system, children included, medians of the repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from measure import print_table
from serve_batch import batch

os.environ.setdefault("POLARS_MAX_THREADS", "1")

NUMERIC, ROWS, TREES = 26, 20_000, 100
CONCURRENCY = 8
_ATTACKS = 20
_NOTHING = """
import uvicorn
from fastapi import FastAPI, Request, Response
app = FastAPI()
@app.post("/invocations")
async def nothing(request: Request) -> Response:
    await request.body()
    return Response(b'{"predictions":[0]}', media_type="application/json")
@app.get("/ping")
async def ping() -> Response:
    return Response()
uvicorn.run(app, port=PORT, log_level="warning", access_log=False)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--requests", type=int, default=4_000)
    arguments.add_argument("--repeats", type=int, default=3)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        frame = _table()
        _deploy(frame, f"{root}/lake")
        _deploy(frame, f"{root}/lake", key=True)
        pipeline = _scikit_learn(frame, root / "mlflow")
        _in_process(frame, f"{root}/lake", pipeline)
        _over_http(frame, root, given.requests, given.repeats)
        batch(_table, root)


def _table(rows: int = ROWS) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    columns: dict[str, Any] = {f"n{place:02}": rng.normal(size=rows) for place in range(NUMERIC)}
    columns["plan"] = rng.choice(["free", "pro", "team", "school"], rows)
    columns["city"] = rng.choice([f"city {place:02}" for place in range(15)], rows)
    frame = pl.DataFrame(columns)
    risk = frame["n00"] + frame["n01"] * frame["n02"] + (frame["plan"] == "pro").cast(pl.Float64)
    return frame.with_columns(y=(risk + rng.normal(size=rows) > 0.5).cast(pl.Int64))


def _deploy(frame: pl.DataFrame, lake_url: str, *, key: bool = False) -> None:
    """A package as the pipeline packs it, and the entry that makes it champion."""
    from etl_ml.deploy.package import pack
    from etl_ml.deploy.signature import signature
    from etl_ml.lake import Log, open_lake
    from etl_ml.lake.estimator import dump_estimator
    from etl_ml.spec import parse
    from etl_ml.train.model import TabularClassifier
    from etl_ml.train.onnx import convert
    from etl_ml.transform.learned import preprocessor_document
    from etl_ml.transform.preprocessor import Preprocessor

    kinds = {n: "category" if d == pl.String else "float" for n, d in frame.schema.items()}
    columns: dict[str, Any] = {name: {"type": kind} for name, kind in kinds.items()}
    columns["y"] = {"type": "integer", "allowed": [0, 1]}
    if key:
        columns["id"] = {"type": "integer"}
    name = "keyed" if key else "bench"
    attributes = {
        "name": name,
        "source": {"type": "file", "path": "rows.csv"},
        "contract": {"columns": columns, "primary_key": ["id"] if key else []},
        "target": {"column": "y"},
    }
    spec = parse(attributes, file="defs.yaml")
    rows, target = frame.drop("y"), frame["y"].to_numpy()
    preprocessor = Preprocessor.of(spec.features_of(), spec.features)
    features = preprocessor.fit_transform(rows, target)
    model = TabularClassifier(preprocessor, _lightgbm().fit(features, target), [0, 1])
    onnx = convert(model.estimator, features)
    content = {
        "model.skops": dump_estimator(model),
        "model.onnx": onnx.model,
        "onnx_report.json": onnx.report,
        "preprocessor.json": preprocessor_document(preprocessor),
        "signature.json": signature(spec, model, rows[:20], model.predict_proba(rows[:20])),
    }
    lake = open_lake(lake_url)
    pack(lake, name, "0000000001", content, {})
    Log(lake, name).promote(
        "0000000001",
        replaces=None,
        run_id="",
        by="",
        reason="benchmark",
        metric="f1",
        value=0.0,
        compared=False,
    )


def _scikit_learn(frame: pl.DataFrame, path: Path) -> Any:
    """The peer's pipeline, fitted and saved as MLflow saves it."""
    import mlflow
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    rows = frame.drop("y").to_pandas()
    numbers = [name for name in rows if name.startswith("n")]
    prepared = ColumnTransformer(
        [
            ("numeric", SimpleImputer(strategy="median"), numbers),
            ("categorical", OneHotEncoder(handle_unknown="ignore"), ["plan", "city"]),
        ]
    )
    pipeline = Pipeline([("prepare", prepared), ("model", _lightgbm())])
    pipeline.fit(rows, frame["y"].to_numpy())
    told = mlflow.models.infer_signature(rows[:5], pipeline.predict(rows[:5]))
    trusted = ["collections.OrderedDict", "lightgbm.basic.Booster", "numpy.dtype"]
    trusted += ["lightgbm.sklearn.LGBMClassifier"]
    mlflow.sklearn.save_model(pipeline, path, signature=told, skops_trusted_types=trusted)
    return pipeline


def _lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=TREES, n_jobs=1, verbose=-1)


def _in_process(frame: pl.DataFrame, lake_url: str, pipeline: Any) -> None:
    import pandas as pd

    from etl_ml.deploy import open_package
    from etl_ml.lake import open_lake
    from etl_ml.serve.json_rows import read_json
    from etl_ml.serve.rows import Rows
    from etl_ml.serve.scorer import Scorer

    scorer = Scorer(open_package(open_lake(lake_url), "bench", "0000000001"))
    table = [["", "ours ms", "from JSON ms", "bar ms", "scikit-learn ms", "ratio"]]
    for count, bar in ((1, 0.15), (32, None), (1_000, 6.0)):
        asked = frame.drop("y")[:count]
        rows = Rows(asked.to_dict(as_series=False), count)
        body = orjson.dumps({"rows": asked.to_dicts()})
        records = asked.to_dicts()
        ours = _milliseconds(lambda rows=rows: scorer.score(rows))  # type: ignore[misc]
        text = _milliseconds(
            lambda body=body: orjson.dumps(  # type: ignore[misc]
                scorer.score(read_json(body, scorer.signature, 1_000)).document()
            )
        )
        peer = _milliseconds(lambda: pipeline.predict_proba(pd.DataFrame(records)))  # noqa: B023
        told = "" if bar is None else f"{bar:g}"
        table.append(
            [
                f"{count:,} rows",
                f"{ours:.3f}",
                f"{text:.3f}",
                told,
                f"{peer:.2f}",
                f"{peer / ours:.1f} ×",
            ]
        )
    print_table("One call in process, CPU", table)


def _milliseconds(call: Callable[[], object]) -> float:
    """CPU of one call: the median of seven runs of at least 50 ms."""
    call()
    start, count = time.process_time(), 0
    while time.process_time() - start < 0.05:
        call()
        count += 1
    found = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(count):
            call()
        found.append((time.process_time() - start) / count * 1e3)
    return statistics.median(found)


@dataclass(frozen=True)
class Load:
    """Requests a server CPU second, and seconds that half and 99 % of them took at most."""

    rate: float
    p50: float
    p99: float


def _over_http(frame: pl.DataFrame, root: Path, requests: int, repeats: int) -> None:
    body = orjson.dumps({"dataframe_records": frame.drop("y")[:1].to_dicts()})
    found: dict[str, list[Load]] = {}
    started: dict[str, tuple[float, float]] = {}
    refusals: list[list[str]] = []
    for _ in range(repeats):
        for name, command in _servers(root).items():
            port = _free_port()
            spoken = [argument.replace("PORT", str(port)) for argument in command]
            with _running(spoken, port, root) as (process, seconds, cpu):
                started.setdefault(name, (seconds, cpu))
                started[name] = min(started[name], (seconds, cpu))
                few = requests if name != "mlflow models serve" else max(requests // 8, 200)
                _load(port, process, body, few // 4)
                found.setdefault(name, []).append(_load(port, process, body, few))
                if name == "etl-ml serve" and not refusals:
                    refusals = _refusals(port, process)
    rates = {name: statistics.median(load.rate for load in loads) for name, loads in found.items()}
    ours = rates["etl-ml serve"]
    table = [["", "requests / CPU s", "ours over it", "p50 ms", "p99 ms", "p99 / p50", "ready s"]]
    for name, loads in found.items():
        middle = sorted(loads, key=lambda load: load.rate)[len(loads) // 2]
        best = min(load.p99 / load.p50 for load in loads)
        table.append(
            [
                name,
                f"{rates[name]:,.0f}",
                f"{ours / rates[name]:.2f} ×",
                f"{middle.p50 * 1e3:.2f}",
                f"{middle.p99 * 1e3:.2f}",
                f"{best:.1f}",
                f"{started[name][0]:.2f} ({started[name][1]:.2f} CPU)",
            ]
        )
    print_table(f"Single rows over HTTP, {CONCURRENCY} at once (bars: 2,000; 10 ×; 3; 3 s)", table)
    print_table("Attacks, from the first byte to the refusal (bar: 50 ms)", refusals)


def _servers(root: Path) -> dict[str, list[str]]:
    beside = Path(sys.executable).parent
    mlflow = [str(beside / "mlflow"), "models", "serve", "-m", str(root / "mlflow")]
    return {
        "a service that does nothing": [sys.executable, "-c", _NOTHING],
        "etl-ml serve": [str(beside / "etl-ml"), "serve", "bench", "--port", "PORT"],
        "mlflow models serve": [*mlflow, "--env-manager", "local", "-p", "PORT"],
    }


@contextmanager
def _running(
    command: list[str], port: int, root: Path
) -> Iterator[tuple[subprocess.Popen[bytes], float, float]]:
    """A server, the seconds until it was ready, and its CPU seconds until then."""
    environment = os.environ | {"ETL_ML_LAKE": f"{root}/lake", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("POLARS_MAX_THREADS", None)
    # MLflow starts uvicorn by its name.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    start = time.perf_counter()
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not _is_ready(port):
            if process.poll() is not None or time.perf_counter() - start > 120:
                sys.exit((root / "log").read_text()[-3000:])
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        yield process, seconds, _cpu(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _load(port: int, process: subprocess.Popen[bytes], body: bytes, requests: int) -> Load:
    head = "POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    before = _cpu(process)
    seconds = asyncio.run(_clients(port, request, requests))
    spent = _cpu(process) - before
    seconds.sort()
    p50, p99 = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    return Load(len(seconds) / spent, p50, p99)


async def _clients(port: int, request: bytes, requests: int) -> list[float]:
    seconds: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(requests // CONCURRENCY):
            start = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200"), head
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            seconds.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONCURRENCY)))
    return seconds


def _refusals(port: int, process: subprocess.Popen[bytes]) -> list[list[str]]:
    """What it takes to refuse an attack; bodies that are refused early are not sent in full."""
    brackets = b"[" * 10_000_000
    attacks = {
        "100 MB body": b"[" + b" " * (100 << 20),
        "10 M nested brackets": brackets,
        "6 MB of nested brackets": brackets[: 6 << 20],
        "6 MB of empty lists": b"[" + b"[]," * 2_000_000,
        "malformed JSON": b'{"rows": [{"n00":',
        "NaN": b'{"rows": [{"n00": NaN}]}',
        "a huge integer": b'{"rows": [{"n00": ' + b"9" * 5_000 + b"}]}",
        "a wrong type": orjson.dumps({"rows": [{f"n{place:02}": "x" for place in range(26)}]}),
        "missing columns": b'{"rows": [{}]}',
    }
    table = [["", "status", "ms", "server CPU ms"]]
    for name, body in attacks.items():
        found = []
        before = _cpu(process)
        for _ in range(_ATTACKS):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                start = time.perf_counter()
                connection.sendall(
                    b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n" % len(body)
                )
                if len(body) <= 6 << 20:
                    connection.sendall(body)
                status = connection.recv(65_536).split()[1].decode()
                found.append((time.perf_counter() - start) * 1e3)
        spent = (_cpu(process) - before) / _ATTACKS * 1e3
        table.append([name, status, f"{statistics.median(found):.1f}", f"{spent:.1f}"])
    return table


def _cpu(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds of all processes of a session, as far as they are there."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
