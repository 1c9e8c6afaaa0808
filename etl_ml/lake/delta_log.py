"""Entries of a Delta log that replace a whole table, written and read without the log before them.

Such an entry names all files of its version, and every one of ours repeats the table's metadata: so
one entry tells everything, whatever came before. Delta's own library reads the log from its last
checkpoint, twice, to open a table; here the next version takes one read and one write.

References
----------
Delta Transaction Log Protocol: commitInfo, metaData, add, remove, protocol.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml import __version__

if TYPE_CHECKING:
    from deltalake import DeltaTable

_ENGINE = "etl_ml"


@dataclass(frozen=True)
class Replacement:
    """A version of a table whose entry in the log tells everything about it.

    Attributes
    ----------
    files : names of its Parquet files and their sizes in bytes
    metadata : the table's, as the log has it
    """

    version: int
    files: Mapping[str, int]
    metadata: Mapping[str, Any]

    @classmethod
    def parse(cls, version: int, data: bytes) -> Replacement | None:
        """An entry of the log; None for one that is not ours or does not replace everything."""
        actions = [json.loads(line) for line in data.splitlines() if line.strip()]
        told = {name: action[name] for action in actions for name in action}
        if not str(told.get("commitInfo", {}).get("engineInfo", "")).startswith(f"{_ENGINE}:"):
            return None
        files = {a["add"]["path"]: int(a["add"]["size"]) for a in actions if "add" in a}
        return cls(version, files, told["metaData"])

    @classmethod
    def of(cls, table: DeltaTable) -> Replacement:
        """The state of a table that was opened by Delta's library."""
        import polars as pl

        files = pl.DataFrame(table.get_add_actions(flatten=True)).select("path", "size_bytes")
        told = table.metadata()
        metadata = {
            "id": told.id,
            "name": told.name,
            "description": told.description,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": table.schema().to_json(),
            "partitionColumns": list(told.partition_columns),
            "createdTime": told.created_time,
            "configuration": dict(told.configuration),
        }
        return cls(table.version(), dict(files.iter_rows()), metadata)

    def followed_by(
        self, name: str, size: int, rows: int, schema: str, stamp: Mapping[str, str]
    ) -> bytes:
        """The entry by which one Parquet file takes the place of all that is there.

        Parameters
        ----------
        schema : of the new rows, as Delta Lake writes it in JSON
        stamp : what the commit carries
        """
        now = int(time.time() * 1000)
        info = {
            **stamp,
            "timestamp": now,
            "operation": "WRITE",
            "operationParameters": {"mode": "Overwrite", "partitionBy": "[]"},
            "engineInfo": f"{_ENGINE}:{__version__}",
        }
        gone = {"dataChange": True, "deletionTimestamp": now, "extendedFileMetadata": True}
        actions: list[dict[str, Any]] = [
            {"commitInfo": info},
            {"metaData": {**self.metadata, "schemaString": schema}},
            *(
                {"remove": {"path": old, **gone, "partitionValues": {}, "size": bytes_}}
                for old, bytes_ in self.files.items()
            ),
            {
                "add": {
                    "path": name,
                    "partitionValues": {},
                    "size": size,
                    "modificationTime": now,
                    "dataChange": True,
                    "stats": json.dumps({"numRecords": rows}),
                }
            },
        ]
        return "".join(f"{json.dumps(action)}\n" for action in actions).encode()


def entry_name(path: str, version: int) -> str:
    """The object that holds a version's entry in a table's log."""
    return f"{path}/_delta_log/{version:020d}.json"
