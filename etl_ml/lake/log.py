"""The registry's log: who was champion when. Entries are created, never changed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from etl_ml.lake.backend import AlreadyExists
from etl_ml.lake.documents import dump_json
from etl_ml.lake.lake import Lake, version_name
from etl_ml.lake.manifest import UnreadableVersion
from etl_ml.spec.error import EtlMlError


class ChampionChanged(EtlMlError):
    """Another run became champion between the comparison and the promotion."""


@dataclass(frozen=True)
class Promotion:
    """An entry of the log: from `at` on, `version` is the champion.

    `metric` and `value` are the test score that it was promoted with; `compared` tells whether a
    champion before it was beaten or only the gates decided; `by` is who asked for it, "" for a run
    of the pipeline.
    """

    entry: str
    version: str
    at: str
    run_id: str
    reason: str
    metric: str
    value: float
    compared: bool
    by: str = ""


class Log:
    """The champions of one pipeline, in order."""

    def __init__(self, lake: Lake, pipeline: str) -> None:
        self._backend, self._pipeline = lake.backend, pipeline
        self._prefix = f"{pipeline}/registry/log"

    def entries(self, last: int | None = None) -> list[Promotion]:
        """All entries, or the last ones, oldest first."""
        names = [name for name in self._backend.objects(self._prefix) if name.endswith(".json")]
        chosen = names[-last:] if last is not None else names
        found = [f"{self._prefix}/{name}" for name in chosen]
        return [self._parsed(name, self._backend.get(name) or b"") for name in found]

    def entry(self, number: int) -> Promotion | None:
        """One entry by its number, or None."""
        name = f"{self._prefix}/{version_name(number)}.json"
        data = self._backend.get(name)
        return self._parsed(name, data) if data is not None else None

    def _parsed(self, name: str, data: bytes) -> Promotion:
        try:
            return Promotion(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise UnreadableVersion(
                f"{self._pipeline}: entry {name} of the log of champions is damaged: {error}",
                where=f"{self._backend.url}/{name}",
                fix="restore the file; without it nobody knows who is champion",
            ) from None

    def head(self) -> Promotion | None:
        """The newest entry: the champion now."""
        last = self.entries(last=1)
        return last[0] if last else None

    def promote(
        self,
        version: str,
        *,
        replaces: str | None,
        run_id: str,
        reason: str,
        metric: str,
        value: float,
        compared: bool,
        by: str = "",
    ) -> Promotion:
        """Append an entry that makes `version` the champion.

        Parameters
        ----------
        replaces : the champion that the decision was made against, None if there was none

        Raises
        ------
        ChampionChanged
            Another one is champion by now; nothing was written.
        """
        head = self.head()
        current = head.version if head else None
        if head is not None and current == version:
            return head
        if current != replaces:
            raise self._changed(version, replaces, current)
        number = int(head.entry) + 1 if head else 1
        promotion = Promotion(
            entry=version_name(number),
            version=version,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            run_id=run_id,
            reason=reason,
            metric=metric,
            value=value,
            compared=compared,
            by=by,
        )
        try:
            name = f"{self._prefix}/{promotion.entry}.json"
            self._backend.create(name, dump_json(asdict(promotion)))
        except AlreadyExists:
            raise self._changed(version, replaces, "another one") from None
        return promotion

    def _changed(self, version: str, replaces: str | None, current: str | None) -> ChampionChanged:
        return ChampionChanged(
            f"{self._pipeline}: version {version} was judged against "
            f"{replaces or 'no champion'}, but {current or 'none'} is champion by now.",
            fix=f"materialize {self._pipeline}/model_evaluation and deployed_model again",
        )
