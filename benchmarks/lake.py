"""What the lake costs beyond the bytes it keeps, against the calls that write and read them.

    python benchmarks/lake.py [local] [s3] [dagster] [requests] [--rows N] [--repeats N]

A table of 30 columns and an array of 256 MB. `local`: a lake in a folder against Polars' and
NumPy's own calls. `s3`: a lake in SeaweedFS against the same bytes put and got by obstore.
`dagster`: assets handed on by etl_ml's IO manager and by dagster-aws's, which pickles, on the same
server. Every figure is of a fresh process, the median of the repeats, taken in turn; what makes the
data and what is imported is not counted, and memory is what a process takes beyond the data.
`requests`: how often the store is asked, counted by a proxy; also at 100,000 versions.

Every file in the lake has its SHA-256 in its manifest: an array is written and read no faster than
it is hashed, which is shown beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import obstore
import polars as pl
from measure import Cost, measure, print_table

sys.path.insert(0, str(Path(__file__).parents[1]))

from etl_ml.lake import Contents, Lake, open_lake
from etl_ml.lake.manifest import Manifest
from etl_ml.lake.stores import open_store
from etl_ml_tests.servers.proxy import Proxy
from etl_ml_tests.servers.s3 import S3

_PARQUET = "compression='snappy', row_group_size=131_072"  # as the lake has it
_MAKE = """
import numpy as np, polars as pl
rng = np.random.default_rng(0)
words = pl.Series([f"word {i}" for i in range(200)])
columns = {f"number_{i}": rng.normal(size=ROWS) for i in range(18)}
columns |= {f"count_{i}": rng.integers(0, 1000, ROWS) for i in range(6)}
columns |= {f"word_{i}": words[rng.integers(0, 200, ROWS)] for i in range(4)}
columns["when"] = pl.Series(rng.integers(10**15, 2 * 10**15, ROWS)).cast(pl.Datetime("us", "UTC"))
columns["_etl_ml_row"] = [f"{i:032x}-0" for i in range(ROWS)]
pl.DataFrame(columns).write_parquet(f"{FOLDER}/made.parquet", PARQUET)
np.save(f"{FOLDER}/made.npy", rng.normal(size=BYTES // 8))
"""
_FRAME = 'frame = pl.read_parquet(f"{FOLDER}/made.parquet")\n'
_ARRAY = 'array = np.load(f"{FOLDER}/made.npy")\n'
_IMPORTS = """
import hashlib, io, os
import deltalake, numpy as np, obstore, polars as pl, pyarrow as pa
from etl_ml.lake import Contents, open_lake
from etl_ml.lake import object_store
from etl_ml.lake.stores import open_store
lake = open_lake(LAKE)
"""


_PROBED = 5  # the last versions, whose claims are asked for


@dataclass(frozen=True)
class Case:
    """The same done by several, the last of which is etl_ml; `needs` makes what they are given."""

    title: str
    needs: str
    ways: Mapping[str, str]


def local_cases() -> list[Case]:
    # A new file each time, as the lake's are: to write over one spares the system half the work.
    new = "f'{FOLDER}/peer-{os.urandom(8).hex()}"
    return [
        Case(
            "write the table",
            _FRAME,
            {
                "write_parquet": f"frame.write_parquet({new}.parquet')",
                "  with the lake's settings": f"frame.write_parquet({new}.parquet', {_PARQUET})",
                "etl_ml": "lake.write('bench', 'table', Contents(frame.lazy()))",
            },
        ),
        Case(
            "read the table",
            "",
            {
                "read_parquet": "pl.read_parquet(f'{FOLDER}/made.parquet')",
                "etl_ml": "lake.table('bench', 'table').to_polars()",
            },
        ),
        Case(
            "write the array",
            _ARRAY,
            {
                "SHA-256 alone": "hashlib.sha256(array.view(np.uint8).data).digest()",
                "np.save": f"np.save({new}.npy', array)",
                "etl_ml": "lake.write('bench', 'array', Contents(files={'a.npy': array}))",
            },
        ),
        Case(
            "read the array",
            "",
            {
                "np.load": "np.load(f'{FOLDER}/made.npy')",
                "etl_ml": "lake.read('bench', 'array', 'a.npy')",
            },
        ),
    ]


def s3_cases(bucket: str) -> list[Case]:
    needs = f"store, _ = open_store('s3://{bucket}/peer')\nout = io.BytesIO()\n"
    get = "bytes(obstore.get(store, {!r}).bytes())"
    put = "obstore.put(store, {!r}, out.getvalue())"
    return [
        Case(
            "write the table",
            needs + _FRAME,
            {
                "write_parquet, obstore.put": f"frame.write_parquet(out, {_PARQUET}); "
                + put.format("t"),
                "etl_ml": "lake.write('bench', 'table', Contents(frame.lazy()))",
            },
        ),
        Case(
            "read the table",
            needs,
            {
                "obstore.get, read_parquet": f"pl.read_parquet({get.format('t')})",
                "etl_ml": "lake.table('bench', 'table').to_polars()",
            },
        ),
        Case(
            "write the array",
            needs + _ARRAY,
            {
                "np.save, obstore.put": "np.save(out, array); " + put.format("a"),
                "etl_ml": "lake.write('bench', 'array', Contents(files={'a.npy': array}))",
            },
        ),
        Case(
            "read the array",
            needs,
            {
                "obstore.get, np.load": f"np.load(io.BytesIO({get.format('a')}))",
                "etl_ml": "lake.read('bench', 'array', 'a.npy')",
            },
        ),
    ]


_DAGSTER = """
import dagster as dg, etl_ml, pandas as pd
from dagster_aws.s3 import S3PickleIOManager, S3Resource
s3 = S3Resource(endpoint_url=os.environ['AWS_ENDPOINT_URL'], region_name='us-east-1',
    aws_access_key_id=os.environ['AWS_ACCESS_KEY_ID'],
    aws_secret_access_key=os.environ['AWS_SECRET_ACCESS_KEY'])
pickles = S3PickleIOManager(s3_resource=s3, s3_bucket=BUCKET, s3_prefix='pickles')
ours = etl_ml.S3LakeIOManager(s3=s3, bucket=BUCKET, prefix='assets')

@dg.asset
def table():
    return frame.to_pandas()

@dg.asset(name='array')
def numbers():
    return array

@dg.asset
def table_size(table) -> int:
    return len(table)

@dg.asset
def array_size(array) -> int:
    return len(array)

def run(manager, chosen):
    assets = [table, numbers, table_size, array_size]
    assert dg.materialize(assets, selection=[chosen], resources={'io_manager': manager}).success
import logging; logging.disable(logging.INFO)
"""


def dagster_cases(bucket: str) -> list[Case]:
    setup = f"BUCKET = {bucket!r}\n{_DAGSTER}"
    cases = []
    for title, needs, asset in (
        ("write the table, a pandas frame", _FRAME, "table"),
        ("read the table", "", "table_size"),
        ("write the array", _ARRAY, "array"),
        ("read the array", "", "array_size"),
    ):
        ways = {
            "S3PickleIOManager": f"run(pickles, {asset!r})",
            "etl_ml.S3LakeIOManager": f"run(ours, {asset!r})",
        }
        cases.append(Case(title, setup + needs, ways))
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["local", "s3", "dagster", "requests"]
    parser.add_argument("parts", nargs="*", metavar="part", default=parts)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--versions", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known = f"ROWS, BYTES, FOLDER = {given.rows}, {given.megabytes << 20}, {folder!r}\n"
        if set(given.parts) & {"local", "s3", "dagster"}:
            measure(known + _MAKE.replace("PARQUET", _PARQUET))
        if "local" in given.parts:
            setup = f"{known}LAKE = {folder + '/lake'!r}\n{_IMPORTS}"
            tell("a lake in a folder", local_cases(), setup, given.repeats)
        if set(given.parts) & {"s3", "dagster", "requests"}:
            home = Path(folder, "s3")
            home.mkdir()
            server = S3(home)
            server.prepare()
            server.start()
            os.environ |= server.environment
            try:
                remote(given, server, known)
            finally:
                server.kill()


def remote(given: argparse.Namespace, server: S3, known: str) -> None:
    bucket = server.bucket()
    setup = f"{known}LAKE = 's3://{bucket}/lake'\n{_IMPORTS}"
    if "s3" in given.parts:
        tell("a lake in SeaweedFS", s3_cases(bucket), setup, given.repeats)
    if "dagster" in given.parts:
        tell("assets in SeaweedFS", dagster_cases(bucket), setup, given.repeats)
    if "requests" in given.parts:
        requests(server, bucket, given.versions)


def tell(title: str, cases: list[Case], setup: str, repeats: int) -> None:
    rows = [["", "CPU s", "etl_ml", "wall s", "etl_ml", "MB more", "etl_ml"]]
    for case in cases:
        rows.append([case.title, *[""] * 6])
        base = measure("pass", setup=setup + case.needs).rss
        costs: dict[str, list[Cost]] = {way: [] for way in case.ways}
        for _ in range(repeats):
            for way, code in case.ways.items():
                costs[way].append(measure(code, setup=setup + case.needs))
        found = {way: _median(each, base) for way, each in costs.items()}
        ours = list(found.values())[-1]
        for way, cost in found.items():
            cells = [f"  {way}"]
            for own, other in ((ours.cpu, cost.cpu), (ours.wall, cost.wall), (ours.rss, cost.rss)):
                ratio = "" if cost is ours else f"{own / max(other, 1e-9):.2f} ×"
                cells += [f"{other:,.0f}" if own is ours.rss else f"{other:.2f}", ratio]
            rows.append(cells)
    print_table(title, rows)


def _median(costs: list[Cost], base: float) -> Cost:
    return Cost(
        cpu=statistics.median(cost.cpu for cost in costs),
        wall=statistics.median(cost.wall for cost in costs),
        rss=max(statistics.median(cost.rss for cost in costs) - base, 1),
    )


def requests(server: S3, bucket: str, versions: int) -> None:
    proxy = Proxy(server.port)
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.port}"
    lake = open_lake(f"s3://{bucket}/requests")
    os.environ["AWS_ENDPOINT_URL"] = server.endpoint
    contents = Contents(pl.LazyFrame({"x": [1]}), {"x.json": {"x": 1}})
    for _ in range(3):
        lake.write("p", "a", contents)
    asyncio.run(_grow(f"s3://{bucket}/requests", versions))
    rows = [["", "requests", "bar"]]

    def count(title: str, bar: str = "") -> None:
        data = sum("x.json" in path or ".parquet" in path for _, path in proxy.requests)
        log = sum("_delta_log" in path for _, path in proxy.requests)
        rows.append([title, f"{len(proxy.requests) - data - log}", bar])
        rows.append(["  and of the table's log", f"{log}", ""])
        proxy.requests.clear()

    proxy.requests.clear()
    lake.write("p", "a", contents)
    count("commit a table and a file, beyond the data's own", "5")
    rows_of = [("a hint of the newest", 0, "3"), ("one version behind", 1, ""), ("none", None, "")]
    for title, behind, bar in rows_of:
        _hint(lake, versions, behind)
        proxy.requests.clear()
        assert lake.latest("p", "many") == f"{versions:010d}"
        count(f"the newest of {versions:,}, with the hint: {title}", bar)
    proxy.close()
    print_table("requests to S3", [row for row in rows if row[1] != "0"])


def _hint(lake: Lake, versions: int, behind: int | None) -> None:
    if behind is None:
        lake.backend.delete("p/files/many/latest")
    else:
        lake.backend.put("p/files/many/latest", b"%010d" % (versions - behind))


async def _grow(url: str, versions: int) -> None:
    """An asset with that many committed versions."""
    store, root = open_store(url)
    at_once = asyncio.Semaphore(64)

    async def put(name: str, data: bytes) -> None:
        async with at_once:
            await obstore.put_async(store, f"{root}/p/files/many/{name}", data)

    async def version(number: int) -> None:
        name = f"{number:010d}"
        manifest = Manifest("p", "many", name, "", "", "", {}, None, ())
        await put(f"{name}/manifest.json", manifest.dump())
        if number > versions - _PROBED:
            await put(f"{name}/claim.json", b"{}")

    await asyncio.gather(*(version(number) for number in range(1, versions + 1)))


if __name__ == "__main__":
    main()
