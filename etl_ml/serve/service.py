"""From a request's bytes to an answer's, whatever the protocol; and who looks on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson

from etl_ml.serve.csv_rows import read_csv
from etl_ml.serve.json_rows import read_json
from etl_ml.serve.open_inference import Inference
from etl_ml.serve.parquet_rows import MAGIC, read_parquet
from etl_ml.serve.refused import MEDIA_TYPE, NOT_FOUND, Refused

if TYPE_CHECKING:
    from etl_ml.serve.answers import Answers
    from etl_ml.serve.champion import Champion
    from etl_ml.serve.metrics import Metrics
    from etl_ml.serve.rows import Rows
    from etl_ml.serve.scorer import Scorer
    from etl_ml.serve.settings import Settings

log = logging.getLogger("etl_ml.serve")

T = TypeVar("T")

_INLINE_BYTES = 64 << 10
"""Bodies up to which reading is quicker than handing them to a thread."""
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_PARQUET = (PARQUET, "application/x-parquet")


class Observer(Protocol):
    """Sees every request that was answered: a shadow, or counters of what comes in."""

    def observe(self, rows: Rows, answers: Answers) -> None:
        """Take note, without waiting: requests are answered by the same thread.

        Parameters
        ----------
        rows : cells by column, of the model's inputs at least, as they came; each keeps the
            model's contract
        answers : to these rows
        """

    def close(self) -> None:
        """No more will come."""


class Service:
    """Answers requests with the champion, on the event loop where that is quick, else in a thread.

    Parameters
    ----------
    observers : are shown what was asked and answered
    """

    def __init__(
        self,
        champion: Champion,
        settings: Settings,
        metrics: Metrics,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.champion, self._settings, self._metrics = champion, settings, metrics
        self._observers = tuple(observers)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="score")

    @property
    def scorer(self) -> Scorer:
        """The model that answers now."""
        return self.champion.scorer

    async def invoke(
        self, body: bytes, headers: Mapping[bytes, bytes]
    ) -> tuple[Answers, bytes, str]:
        """Answer rows in any format that is known.

        Returns
        -------
        the answers, and as they are sent: bytes and media type

        Raises
        ------
        Refused
        """
        scorer = self.scorer
        kind, header = _media_type(headers.get(b"content-type", b""), body)
        accepted = headers.get(b"accept", b"")

        def read() -> Rows:
            return self._read(body, kind, header, scorer)

        answers = await self._answered(scorer, body, read)
        if accepted.startswith(b"text/csv"):
            return answers, answers.csv(), CSV
        return answers, orjson.dumps(answers.document()), JSON

    async def infer(self, body: bytes, model: str, version: str | None) -> tuple[Answers, bytes]:
        """Answer a request of the open inference protocol; see `invoke`."""
        scorer = self.scorer
        self.check_model(model, version)
        found: list[Inference] = []

        def read() -> Rows:
            found.append(Inference(body, scorer.signature, self._settings.max_rows))
            return found[0].rows

        answers = await self._answered(scorer, body, read)
        return answers, orjson.dumps(found[0].response(answers))

    def check_model(self, model: str, version: str | None = None) -> None:
        """See that a model, and its version, is the one that is served.

        Raises
        ------
        Refused
        """
        scorer = self.scorer
        if model != scorer.model or version not in (None, scorer.version):
            raise Refused(
                "there is no such model here.",
                status=NOT_FOUND,
                reason="no_model",
                expected=f"{scorer.model}, version {scorer.version}",
            )

    def metrics(self) -> bytes:
        """For Prometheus."""
        return self._metrics.text()

    def count(self, refused: Refused) -> None:
        """Note that a request was refused."""
        self._metrics.refused.labels(refused.reason).inc()

    def close(self) -> None:
        """End what runs beside the requests, which have been answered."""
        self.champion.close()
        for observer in self._observers:
            observer.close()

    async def _answered(self, scorer: Scorer, body: bytes, read: Callable[[], Rows]) -> Answers:
        rows, answers = await self._asked(scorer, body, read)
        self._metrics.rows.inc(rows.count)
        for observer in self._observers:
            observer.observe(rows, answers)
        return answers

    async def _asked(
        self, scorer: Scorer, body: bytes, read: Callable[[], Rows]
    ) -> tuple[Rows, Answers]:
        if not scorer.inline or len(body) > _INLINE_BYTES or body.startswith(MAGIC):
            return await self._in_thread(lambda: _scored(scorer, read))
        rows = read()
        if (answers := scorer.quick(rows)) is not None:
            return rows, answers
        return rows, await self._in_thread(lambda: scorer.score(rows))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._metrics.queue.inc()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._metrics.queue.dec()

    def _read(self, body: bytes, kind: str, header: bool | None, scorer: Scorer) -> Rows:
        inputs, most = scorer.signature.inputs, self._settings.max_rows
        if kind == CSV:
            return read_csv(body, list(inputs), most, header)
        if kind == PARQUET:
            return read_parquet(body, inputs, most, self._settings.max_unpacked_bytes)
        return read_json(body, scorer.signature, most)


def _scored(scorer: Scorer, read: Callable[[], Rows]) -> tuple[Rows, Answers]:
    rows = read()
    return rows, scorer.score(rows)


def _media_type(given: bytes, body: bytes) -> tuple[str, bool | None]:
    """What a body is, and whether CSV says that it has a header."""
    if given == b"application/json" or not given:
        return (PARQUET if body.startswith(MAGIC) else JSON), None
    message = Message()
    message["content-type"] = given.decode("latin-1")
    kind, charset = message.get_content_type(), message.get_param("charset", "utf-8")
    if str(charset).lower() in ("utf-8", "utf8", "us-ascii"):
        if kind == CSV:
            header: dict[Any, bool] = {"present": True, "absent": False}
            return CSV, header.get(message.get_param("header"))
        if kind in _PARQUET or (kind == "application/octet-stream" and body.startswith(MAGIC)):
            return PARQUET, None
        # What curl says of a body that it was told nothing of.
        if kind in (JSON, "application/x-www-form-urlencoded") or kind.endswith("+json"):
            return JSON, None
    raise Refused(
        "the body is of a type that is not read.",
        status=MEDIA_TYPE,
        reason="media_type",
        expected=f"{JSON}, {CSV} or {PARQUET}, in UTF-8",
    )
