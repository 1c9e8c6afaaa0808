"""Whether a run is due, and which: decided from numbers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_ml.orchestration.state import State
from etl_ml.spec.automation import NewData

if TYPE_CHECKING:
    from etl_ml.extract.pending import Pending

LONGEST = 3600.0
"""Seconds that are waited at most after a run that failed or found nothing."""


@dataclass(frozen=True)
class Due:
    """A run that is due.

    Attributes
    ----------
    read : whether the source is read
    data, train, deploy : whether clean rows, a model, its deployment are made
    """

    why: str
    read: bool = False
    data: bool = False
    train: bool = False
    deploy: bool = False


def due(
    asked: NewData, state: State, found: Pending, waited: float, *, growing: bool, empty: int = 0
) -> Due | str:
    """The run that is due, or why there is none.

    Parameters
    ----------
    waited : seconds since rows were first seen to wait
    growing : whether the source is read incrementally; how much of another is new, nobody knows
    empty : how many reads in a row found nothing though rows were counted
    """
    new = found.rows
    train = _trains(asked, state, new, growing)
    enough = new is not None and new >= asked.min_rows
    waits = new is None or new > 0
    if enough or (waits and waited >= asked.max_wait_seconds):
        patience = backoff(asked.every_seconds, empty) if empty else 0.0
        if waited >= patience:
            why = found.told if enough else f"{found.told}, for {waited:,.0f} s"
            return Due(why, read=True, data=True, train=train, deploy=train)
        return f"{found.told}, of which the last {empty} reads found none; a read in {patience:g} s"
    if state.behind and state.refused is None:
        why = "raw_data is newer than what was made from it"
        return Due(why, data=True, train=train, deploy=train)
    if state.behind:
        wants = "the contract is changed or more rows come"
        return f"validation stopped at raw_data, {state.refused}; it waits until {wants}"
    if state.raw is not None and train and not state.current:
        return Due(_told(state), train=True, deploy=True)
    if state.undeployed is not None:
        return Due(f"model {state.undeployed} may be deployed and is not", deploy=True)
    if not waits:
        return found.told
    left = max(asked.max_wait_seconds - waited, 0.0)
    return f"{found.told}; a run for {asked.min_rows:,} rows, or in {left:,.0f} s"


def backoff(every_seconds: float, times: int) -> float:
    """Seconds to wait after so many vain attempts in a row."""
    return float(min(every_seconds * 2 ** min(times - 1, 20), max(LONGEST, every_seconds)))


def _trains(asked: NewData, state: State, new: int | None, growing: bool) -> bool:
    if state.trained_on is None or not growing:
        return True
    grown = max(state.rows - state.trained_on, 0) + (new or 0)
    return grown > 0 and asked.worth_training(grown, state.trained_on)


def _told(state: State) -> str:
    if state.trained_on is None:
        return "no model was trained yet"
    return f"{state.rows - state.trained_on:,} rows since the last training"
