"""Who is champion: entries are created, never changed, and of two promotions one wins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from etl_ml.lake import ChampionChanged, Lake, Log, Promotion, open_lake
from etl_ml.lake.manifest import UnreadableVersion


def promote(log: Log, version: str, replaces: str | None, **more: Any) -> Promotion:
    told: dict[str, Any] = {
        "run_id": "r",
        "reason": "better",
        "metric": "f1",
        "value": 0.9,
        "compared": True,
    } | more
    return log.promote(version, replaces=replaces, **told)


def test_the_highest_entry_is_the_champion_and_none_before_it_changes(
    lake: Lake,
) -> None:
    log = Log(lake, "p")
    assert log.head() is None
    assert log.entries() == []
    first = promote(log, "0000000001", None, value=0.5)
    before = lake.backend.get("p/registry/log/0000000001.json")
    second = promote(log, "0000000004", "0000000001")
    assert before is not None
    assert lake.backend.get("p/registry/log/0000000001.json") == before
    assert log.entries() == [first, second]
    assert log.entries(last=1) == [second]
    assert log.head() == second == Log(open_lake(lake.url), "p").head()
    assert (first.entry, second.entry) == ("0000000001", "0000000002")
    assert (first.value, first.metric, first.compared) == (0.5, "f1", True)
    assert Log(lake, "q").head() is None


def test_promoting_the_champion_again_changes_nothing(lake: Lake) -> None:
    log = Log(lake, "p")
    first = promote(log, "0000000001", None)
    assert promote(log, "0000000001", None) == first
    assert log.entries() == [first]


def test_a_promotion_against_another_champion_is_refused_and_names_both(lake: Lake) -> None:
    log = Log(lake, "p")
    promote(log, "0000000001", None)
    with pytest.raises(ChampionChanged, match="judged against no champion, but 0000000001"):
        promote(log, "0000000002", None)
    with pytest.raises(ChampionChanged, match="judged against 0000000009, but 0000000001"):
        promote(log, "0000000002", "0000000009")
    assert len(log.entries()) == 1


def test_of_racing_promotions_exactly_one_wins(lake: Lake) -> None:
    rivals, replaced = 8, None
    for race in range(5):
        barrier = Barrier(rivals)

        def run(
            rival: int, race: int = race, replaced: str | None = replaced, start: Barrier = barrier
        ) -> Promotion | None:
            start.wait()
            try:
                return promote(Log(lake, "p"), f"{race}{rival:09d}", replaced)
            except ChampionChanged:
                return None

        with ThreadPoolExecutor(rivals) as pool:
            winners = [won for won in pool.map(run, range(rivals)) if won is not None]
        assert len(winners) == 1
        assert Log(lake, "p").head() == winners[0]
        replaced = winners[0].version
    assert [entry.entry for entry in Log(lake, "p").entries()] == [f"{n:010d}" for n in range(1, 6)]


def test_a_damaged_entry_is_named(lake: Lake) -> None:
    promote(Log(lake, "p"), "0000000001", None)
    entry = "p/registry/log/0000000001.json"
    lake.backend.put(entry, (lake.backend.get(entry) or b"")[:20])
    with pytest.raises(UnreadableVersion, match=r"registry/log/0000000001\.json .* is damaged"):
        Log(lake, "p").head()
