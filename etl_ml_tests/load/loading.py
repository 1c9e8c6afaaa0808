"""Loads for the tests, and loads that die: `python -m etl_ml_tests.load.loading JSON`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from etl_ml.lake import Contents, Lake, Version, open_lake
from etl_ml.lake.stores import StoreSettings
from etl_ml.load import Loaded, load
from etl_ml.load.rows import Rows
from etl_ml.spec import Contract
from etl_ml.spec.destination import Destination

CONTRACT = Contract.model_validate(
    {
        "primary_key": ["id"],
        "columns": {
            "id": {"type": "integer", "nullable": False},
            "amount": {"type": "float"},
            "text": {"type": "string"},
        },
    }
)
BATCH = 100


def frame(rows: int, text: str = "new") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(rows),
            "amount": [i / 3 for i in range(rows)],
            "text": [text] * rows,
            "_etl_ml_row": [f"{text}-{i:026x}-0" for i in range(rows)],
        }
    )


def version(lake: Lake, rows: pl.DataFrame) -> Version:
    return lake.write("p", "clean_data", Contents(rows.lazy()))


def taken(
    of: Version,
    settings: StoreSettings | None = None,
    progress: Callable[[str], None] = lambda line: None,
    **keys: Any,
) -> Loaded:
    destination: Any = TypeAdapter(Destination).validate_python(keys)
    return load(
        of,
        destination,
        contract=CONTRACT,
        primary_key=("id",),
        settings=settings,
        progress=progress,
    )


def at_batch(patch: Any, number: int, act: Callable[[], object]) -> None:
    """Batches of `BATCH` rows; `act` once, before the batch of this number or after the last."""
    whole = Rows.batches
    left = [act]

    def batches(self: Rows, size: int) -> Iterator[pl.DataFrame]:
        parts = (p for f in whole(self, size) for p in f.iter_slices(BATCH))
        for i, part in enumerate(parts):
            if i == number and left:
                left.pop()()
            yield part
        if left:
            left.pop()()

    patch.setattr(Rows, "batches", batches)


def killed(lake: Lake, of: Version, number: int, **keys: Any) -> None:
    """Load in a process of its own, which is killed at a batch."""
    what = {"lake": lake.url, "version": of.version, "number": number, "keys": keys}
    command = [sys.executable, "-m", "etl_ml_tests.load.loading", json.dumps(what)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


class _Patch:
    setattr = staticmethod(setattr)


if __name__ == "__main__":
    import etl_ml.load.mongodb_swap

    given = json.loads(sys.argv[1])
    etl_ml.load.mongodb_swap._LEASE = 1.0
    at_batch(_Patch, given["number"], lambda: os.kill(os.getpid(), signal.SIGKILL))
    opened = open_lake(given["lake"]).open("p", "clean_data", given["version"])
    taken(opened, **given["keys"])
