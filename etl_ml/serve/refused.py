"""Why a request is not answered."""

from __future__ import annotations

from typing import Any

from etl_ml.spec.error import EtlMlError

BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, TOO_LARGE, MEDIA_TYPE = 400, 401, 404, 413, 415
UNPROCESSABLE, UNAVAILABLE = 422, 503


class Refused(EtlMlError):
    """A request that is not answered: which cell it is about, and what was expected there.

    Parameters
    ----------
    what : one sentence
    status : HTTP status
    reason : one of a few words, by which refusals are counted
    row : of the request, from 0
    column : by name
    value : the cell, bounded; None where it is sensitive or there is none
    expected : what would have been accepted
    close : the name nearest to one that was not found
    """

    def __init__(
        self,
        what: str,
        *,
        status: int = UNPROCESSABLE,
        reason: str,
        row: int | None = None,
        column: str | None = None,
        value: str | None = None,
        expected: str | None = None,
        close: str | None = None,
    ) -> None:
        fix = None if expected is None else f"give {expected}"
        super().__init__(what, seen=value, close=close, fix=fix)
        self.status, self.reason = status, reason
        self.row, self.column, self.expected = row, column, expected

    def document(self) -> dict[str, Any]:
        """What the client is told: nothing of its request but the cell, and that bounded."""
        told = {
            "error": self.what,
            "row": self.row,
            "column": self.column,
            "value": self.seen,
            "expected": self.expected,
            "nearest": self.close,
        }
        return {key: value for key, value in told.items() if value is not None}
