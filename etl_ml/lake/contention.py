"""Writers of one table that come before each other."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial

from etl_ml.spec.error import EtlMlError

_ATTEMPTS = 20


class Contended(EtlMlError):
    """Too many writers of one table at once."""

    heals = True


def attempts(path: str, where: str) -> Iterator[Callable[[], None]]:
    """Attempts at a commit; each is given the wait that it calls when another writer was first.

    Raises
    ------
    Contended
        All of them lost.
    """
    for attempt in range(_ATTEMPTS):
        yield partial(_wait, 0.1 * 2 ** min(attempt, 6))
    raise Contended(
        f"{path}: {_ATTEMPTS} commits in a row lost to other writers.",
        where=where,
        fix="run fewer materializations of this asset at once, then run this one again",
    )


def _wait(longest: float) -> None:
    time.sleep(random.uniform(0, longest))
