"""How a service is run, and what it takes of a client."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from etl_ml.spec.section import Section


class Settings(Section):
    """Each has an environment variable, `ETL_ML_SERVE_` and its name in capitals."""

    host: str = Field("127.0.0.1", description="The address to listen on; 0.0.0.0 for all.")
    port: int = Field(8080, ge=0, le=65535, description="0 is any that is free.")
    workers: int = Field(1, ge=1, le=64, description="Processes; each loads the model.")
    threads: int = Field(2, ge=1, le=64, description="Of each process, for larger requests.")
    max_body_bytes: int = Field(6 << 20, ge=1, description="Of a request.")
    max_rows: int = Field(10_000, ge=1, description="Of a request.")
    max_seconds: float = Field(30.0, gt=0, description="From a request's first byte to its answer.")
    max_concurrency: int = Field(64, ge=1, description="Requests that are worked on at once.")
    max_connections: int = Field(1_000, ge=1, description="Open connections, idle ones included.")
    poll_seconds: float = Field(10.0, gt=0, description="Between looks for a new champion.")
    unknown_columns: Literal["fail", "drop"] = Field(
        "fail", description="A column that neither the model nor its contract knows."
    )
    token: SecretStr | None = Field(None, min_length=16, description="A bearer token.")
    shadow: str | None = Field(None, description="A version that is asked too, and not answered.")
    live: bool = Field(True, description="Count how rows and answers are, and how far they drift.")
    access_log: bool = Field(False, description="A line a request.")

    @property
    def max_unpacked_bytes(self) -> int:
        """Of a Parquet file: some bytes may stand for very many."""
        return 16 * self.max_body_bytes

    @property
    def max_buffered_bytes(self) -> int:
        """Of all bodies that are being read: many slow clients hold no more than a few large."""
        return 16 * self.max_body_bytes
