"""A table with columns of every type, and a pipeline over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

ACCOUNTS: dict[str, Any] = {
    "name": "accounts",
    "source": {"type": "file", "path": "accounts.csv"},
    "contract": {
        "primary_key": ["id"],
        "columns": {
            "id": {"type": "string"},
            "logins": {"type": "integer", "min": 0},
            "balance": {"type": "float"},
            "score": {"type": "float", "nullable": False, "min": -1, "max": 1},
            "active": {"type": "boolean"},
            "verified": {"type": "boolean", "nullable": False},
            "plan": {"type": "category", "nullable": False, "allowed": ["free", "pro", "team"]},
            "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]$"},
            "note": {"type": "string", "nullable": False, "max_length": 40},
            "seen": {"type": "datetime"},
            "born": {"type": "date"},
            "cancelled": {"type": "integer", "allowed": [0, 1]},
        },
    },
    "target": {"column": "cancelled"},
    "training": {"folds": 3, "candidates": ["decision_tree"]},
}


def accounts(rows: int = 600, seed: int = 0) -> pl.DataFrame:
    """Rows that keep the contract of `ACCOUNTS`."""
    rng = np.random.default_rng(seed)
    gaps = rng.random(rows) < 0.1
    active = rng.random(rows) < 0.5
    score = rng.uniform(-1, 1, rows)
    seconds = rng.integers(0, 10**9, rows)
    frame = pl.DataFrame(
        {
            "id": [f"a{place:05}" for place in range(rows)],
            "logins": rng.poisson(5, rows),
            "balance": rng.normal(0, 1e4, rows).round(2),
            "score": score,
            "active": active,
            "verified": rng.random(rows) < 0.8,
            "plan": rng.choice(["free", "pro", "team"], rows),
            "code": [f"{a}{b}{n}" for a, b, n in zip(
                rng.choice(list("AB"), rows), rng.choice(list("XY"), rows), range(rows), strict=True
            )],
            "note": rng.choice(["a word", "two, words", 'a "quote"', "łódź"], rows),
            "seen": pl.Series(seconds * 1_000_000).cast(pl.Datetime("us", "UTC")),
            "born": pl.Series(rng.integers(0, 20_000, rows)).cast(pl.Int32).cast(pl.Date),
            "cancelled": (rng.random(rows) < 0.2 + 0.6 * active * (score > 0)).astype(int),
        }
    ).with_columns(pl.col("code").str.head(3))  # fmt: skip
    optional = ["logins", "balance", "active", "code", "seen", "born"]
    return frame.with_columns(
        pl.when(~pl.Series(np.roll(gaps, place))).then(pl.col(name)).alias(name)
        for place, name in enumerate(optional)
    )
