"""Kinesis: what is new in one data stream, shard by shard, parents before their children."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.aws import Service, complete
from etl_ml.extract.messages import JsonValues, Messages
from etl_ml.extract.source_error import SourceError
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import nearest
from etl_ml.spec.stream import KinesisSource

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_ml.lake.stores import StoreSettings

_PAGE = 10_000  # records that an answer has at most; and 10 MB
_AT_ONCE = 8  # shards asked at one time
_PAUSE = 0.2  # seconds: a shard answers five times a second
_SECOND = timedelta(seconds=1)  # what the server's time is told to
_EMPTY_PAGES = 10  # a count that finds none goes on this far
START, END = "start", "end"
_BUSY = ("it stays too busy", "add shards, or read it with fewer consumers")
_NAMED = {
    "ResourceNotFoundException": ("there is no such stream", "correct source.stream or region"),
    "AccessDeniedException": (
        "the credentials may not read it",
        "allow kinesis:DescribeStreamSummary, ListShards, GetShardIterator and GetRecords on it",
    ),
    "ProvisionedThroughputExceededException": _BUSY,
    "LimitExceededException": _BUSY,
    "ThrottlingException": _BUSY,
}


def open_kinesis(
    source: KinesisSource,
    contract: Contract,
    settings: StoreSettings | None,
    *,
    state: Mapping[str, Any] | None,
    again: Mapping[str, Any] | None = None,
    whole: bool = False,
    log: Callable[[str], None] | None = None,
) -> KinesisReader:
    """Look which shards there are, and from where each is read.

    Parameters
    ----------
    settings : region and credentials; None for the provider's chain
    state : the cursor of the last commit, None to begin with `source.start`
    again : without a state, the cursor of what is read again, from where that once began
    whole : read as far as it goes now, without a bound
    log : told of gaps

    Raises
    ------
    SourceError
        The stream cannot be read, or is another one than before.
    """
    return KinesisReader(source, contract, settings, state, again, whole, log)


def pending(
    source: KinesisSource,
    state: Mapping[str, Any] | None,
    settings: StoreSettings | None,
    *,
    most: int,
) -> int:
    """How many records are past a committed cursor, counted up to `most`.

    Kinesis does not count: a page of each shard is read, and costs as much of its capacity.

    Raises
    ------
    SourceError
        As `open_kinesis`.
    """
    shards = Shards(source, settings, state, None)
    count = 0
    for shard in shards.readable():
        for _ in range(_EMPTY_PAGES):
            page = shards.page(shard, min(most - count, _PAGE))
            count += len(page["Records"])
            if page["Records"] or not page.get("MillisBehindLatest") or shards.ended(page):
                break
        if count >= most:
            break
    return count


class Shards:
    """The shards of a stream, and how far each was read.

    Attributes
    ----------
    position : by shard `start`, a moment (ISO 8601) to read from, the sequence number of the last
        record that was read, or `end`
    began : the same where the first run began
    until : by shard the moment up to which all was read
    gaps : of what should have been read and has expired
    now : the server's own time (UTC)
    """

    def __init__(
        self,
        source: KinesisSource,
        settings: StoreSettings | None,
        state: Mapping[str, Any] | None,
        again: Mapping[str, Any] | None,
    ) -> None:
        self._source = source
        self._service = Service("kinesis", source, settings, _NAMED, _AT_ONCE)
        self._client = self._service.client
        arn = source.stream.startswith("arn:")
        self._stream = {"StreamARN" if arn else "StreamName": source.stream}
        answer = self._ask(
            "describe_stream_summary", "StreamDescriptionSummary", self._stream, patience=10
        )
        described = answer["StreamDescriptionSummary"]
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        self.now, self._at = datetime.now(UTC), time.monotonic()
        if date:
            self.now = parsedate_to_datetime(date).astimezone(UTC)
        self.created = described["StreamCreationTimestamp"].astimezone(UTC).isoformat()
        self._expired = self.now - timedelta(hours=described["RetentionPeriodHours"])
        self._iterators: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._parents: dict[str, tuple[str, ...]] = {}
        self._closed: set[str] = set()
        self.position: dict[str, str] = {}
        self.until: dict[str, str] = {}
        self.gaps: list[str] = []
        self._list()
        if state is not None:
            if state["created"] != self.created:
                self._made_anew()
            self.began, known = dict(state["began"]), dict(state["position"])
            self.until = dict(state["until"])
        elif again is not None and again["start"] == source.start:
            self.began = known = dict(again["began"])
        else:
            self.began = known = self._first()
        self._place(known)

    def readable(self) -> list[str]:
        """Shards that have records left, and whose parents have none."""
        return [
            shard
            for shard, parents in self._parents.items()
            if self.position[shard] != END
            and all(self.position.get(parent, END) == END for parent in parents)
        ]

    def asked(self, shard: str) -> float:
        """When a shard was asked last: grows."""
        return self._due.get(shard, 0.0)

    def page(self, shard: str, limit: int) -> dict[str, Any]:
        """The next records of a shard, as `GetRecords` gives them."""
        time.sleep(max(0.0, self._due.get(shard, 0.0) - time.monotonic()))
        self._due[shard] = time.monotonic() + _PAUSE
        while True:
            iterator = self._iterators.get(shard) or self._iterator(shard)
            ask = {"ShardIterator": iterator, "Limit": limit}
            try:
                answer = self._ask("get_records", "Records", ask)
            except _ExpiredIterator:
                del self._iterators[shard]
                continue
            self._iterators[shard] = answer.get("NextShardIterator") or ""
            return answer

    @staticmethod
    def ended(page: Mapping[str, Any]) -> bool:
        """Whether a page is the last that its shard will ever have."""
        return not page.get("NextShardIterator")

    def passed(self, shard: str, page: Any) -> bool:
        """Move the position behind a page; whether the shard has no more for this read."""
        records = page["Records"]
        if records:
            self.position[shard] = records[-1]["SequenceNumber"]
        behind = timedelta(milliseconds=page.get("MillisBehindLatest") or 0)
        since = timedelta(seconds=time.monotonic() - self._at)
        self.until[shard] = (self.now + since - behind).isoformat()
        if self.ended(page):
            self.position[shard] = END
            self.until.pop(shard)
            self._list()
            self._place({})
            return True
        late = bool(records) and records[-1]["ApproximateArrivalTimestamp"] > self.now + _SECOND
        return late or not behind

    def _first(self) -> dict[str, str]:
        """Where `source.start` is."""
        if self._source.start == "earliest":
            return dict.fromkeys(self._parents, START)
        if self._source.start_at is not None:
            return dict.fromkeys(self._parents, self._source.start_at.isoformat())
        now = self.now.isoformat()
        return {shard: END if shard in self._closed else now for shard in self._parents}

    def _place(self, known: Mapping[str, str]) -> None:
        """Take known positions; a shard that was not there before is read from its beginning."""
        for shard, place in known.items():
            if place == END or shard in self._parents:
                continue
            self.gaps.append(f"{shard}: has expired; it was read up to {place}")
        for shard in self._parents:
            place = self.position.setdefault(shard, known.get(shard, START))
            self.began.setdefault(shard, START)
            until = self.until.get(shard)
            if place != END and until and datetime.fromisoformat(until) < self._expired:
                kept = self._expired.isoformat()
                self.gaps.append(f"{shard}: whatever came between {until} and {kept} has expired")
                del self.until[shard]

    def _list(self) -> None:
        ask: dict[str, Any] = self._stream
        self._parents.clear()
        while True:
            answer = self._ask("list_shards", "Shards", ask)
            for shard in answer["Shards"]:
                parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                self._parents[shard["ShardId"]] = tuple(p for p in parents if p)
                if "EndingSequenceNumber" in shard["SequenceNumberRange"]:
                    self._closed.add(shard["ShardId"])
            if not answer.get("NextToken"):
                return
            ask = {"NextToken": answer["NextToken"]}

    def _iterator(self, shard: str) -> str:
        place = self.position[shard]
        ask: dict[str, Any] = {**self._stream, "ShardId": shard}
        if place == START:
            ask["ShardIteratorType"] = "TRIM_HORIZON"
        elif place.isdigit():
            ask |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": place}
        else:
            moment = datetime.fromisoformat(place)
            ask |= {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": moment}
        answer = self._ask("get_shard_iterator", "ShardIterator", ask)
        self._iterators[shard] = answer["ShardIterator"]
        return self._iterators[shard]

    def _ask(
        self, action: str, part: str, ask: Mapping[str, Any], patience: float = 180
    ) -> dict[str, Any]:
        """An action's answer, which has a part of this name."""

        def once() -> Any:
            return complete(getattr(self._client, action)(**ask), part, self._client)

        answer: dict[str, Any] = self._service.ask(once, patience=patience, fails=self._refuse)
        return answer

    def _refuse(self, error: Any) -> NoReturn:
        code = getattr(error, "response", {}).get("Error", {}).get("Code")
        if code == "ExpiredIteratorException":
            raise _ExpiredIterator
        if code != "ResourceNotFoundException":
            self._service.refuse(error)
        close = nearest(self._source.stream, self._names())
        self._service.refuse(error, where="source.stream", close=close)

    def _names(self) -> list[str]:
        from botocore import exceptions

        try:
            return list(self._client.list_streams()["StreamNames"])
        except (exceptions.ClientError, exceptions.BotoCoreError):
            return []

    def _made_anew(self) -> NoReturn:
        raise SourceError(
            f"{self._source.address}: what was read of it does not fit what is there now.",
            seen=f"the stream of this name was made anew at {self.created}",
            where="source.stream",
            fix="correct the name, or read everything again, in one commit, by etl-ml refresh",
        )


class _ExpiredIterator(Exception):
    """Five minutes have passed since the last page of a shard."""


class KinesisReader:
    """The records of all shards; see `StreamReader`."""

    total: int | None = None

    def __init__(
        self,
        source: KinesisSource,
        contract: Contract,
        settings: StoreSettings | None,
        state: Mapping[str, Any] | None,
        again: Mapping[str, Any] | None,
        whole: bool,
        log: Callable[[str], None] | None,
    ) -> None:
        import pyarrow as pa

        self._source, self._log, self._known = source, log, dict((state or {}).get("position", {}))
        self._messages = Messages(
            contract,
            JsonValues(),
            {
                "_shard": pa.string(),
                "_sequence": pa.string(),
                "_timestamp": pa.timestamp("us", "UTC"),
                "_key": pa.string(),
            },
        )
        self.schema = self._messages.schema
        self.origin: tuple[str, ...] = (source.address,)
        self._whole = whole
        self._shards = Shards(source, settings, state, again)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        most = float("inf") if self._whole else self._source.max_rows
        seconds = float("inf") if self._whole else self._source.max_seconds
        shards, rows, began = self._shards, 0, time.monotonic()
        caught_up: set[str] = set()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while ready := [shard for shard in shards.readable() if shard not in caught_up]:
                turn = sorted(ready, key=shards.asked)[:_AT_ONCE]
                limit = int(min(_PAGE, max(1, (most - rows) / len(turn))))
                pages = list(pool.map(lambda s, n=limit: shards.page(s, n), turn))
                for shard, page in zip(turn, pages, strict=True):
                    batch = self._batch(shard, page["Records"])
                    if shards.passed(shard, page):
                        caught_up.add(shard)
                    if batch is not None:
                        rows += batch.num_rows
                        yield batch
                if rows >= most or (rows and time.monotonic() - began > seconds):
                    self._tell("there may be more, for the next run")
                    break
        for gap in shards.gaps:
            self._tell(f"{gap}; reading goes on behind it")

    def cursor(self) -> dict[str, Any]:
        return {
            "column": "_sequence",
            "position": self._shards.position,
            "began": self._shards.began,
            "until": self._shards.until,
            "start": self._source.start,
            "created": self._shards.created,
            "gaps": self._shards.gaps,
        }

    def moved(self) -> bool:
        return self._shards.position != self._known

    def committed(self) -> None:
        return

    def close(self) -> None:
        return

    def _tell(self, line: str) -> None:
        if self._log:
            self._log(f"Kinesis: {line}")

    def _batch(self, shard: str, records: list[dict[str, Any]]) -> pa.RecordBatch | None:
        place = self._shards.position[shard]
        if place.isdigit():
            records = [r for r in records if int(r["SequenceNumber"]) > int(place)]
        if not records:
            return None
        own = {
            "_shard": [shard] * len(records),
            "_sequence": [record["SequenceNumber"] for record in records],
            "_timestamp": [record["ApproximateArrivalTimestamp"] for record in records],
            "_key": [record["PartitionKey"] for record in records],
        }
        return self._messages.batch([record["Data"] for record in records], own)
