"""Two-sample tests: whether two sets of values come from one distribution, and how far apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_LEAST_EXPECTED = 5


@dataclass(frozen=True)
class Test:
    """What a test found.

    Attributes
    ----------
    name : `ks`, `chi2` or `nulls`
    statistic : None where there was nothing to test
    effect : from 0 (no difference) to 1
    wasserstein : first Wasserstein distance in standard deviations of the reference
    """

    name: str
    statistic: float | None = None
    p_value: float = 1.0
    effect: float = 0.0
    wasserstein: float | None = None


def ks(reference: np.ndarray[Any, Any], fresh: np.ndarray[Any, Any]) -> Test:
    """Two-sample Kolmogorov-Smirnov test of numbers; the effect is its distance.

    Ties make it conservative. Beside it the first Wasserstein distance, the area between the two
    distribution functions.

    References
    ----------
    Hodges (1958), The significance probability of the Smirnov two-sample test, Ark. Mat. 3; the
    p-value is that of one sample with n = mn / (m + n), as scipy's `ks_2samp(method="asymp")`.
    Ramdas, Garcia Trillos, Cuturi (2017), On Wasserstein two-sample testing, Entropy 19.
    """
    import numpy as np
    from scipy import stats

    if not len(reference) or not len(fresh):
        return Test("ks")
    known, new = np.sort(reference), np.sort(fresh)
    both = np.concatenate([known, new])
    both.sort(kind="stable")  # two runs: merged in linear time
    apart = np.searchsorted(known, both, side="right") / len(known)
    apart -= np.searchsorted(new, both, side="right") / len(new)
    np.abs(apart, out=apart)
    distance = float(apart.max())
    effective = len(known) * len(new) / (len(known) + len(new))
    p_value = float(np.clip(stats.kstwo.sf(distance, max(1, np.round(effective))), 0, 1))
    spread = float(known.std())
    area = float(np.dot(apart[:-1], np.diff(both)))
    return Test("ks", distance, p_value, distance, area / spread if spread else None)


def chi2(reference: Sequence[float], fresh: Sequence[float]) -> Test:
    """Chi-square test of homogeneity of two counts by level; rare levels are pooled.

    Levels with an expected count under 5 on either side are one. See `variation` for the effect.

    References
    ----------
    Pearson (1900), On the criterion that a given system of deviations ..., Phil. Mag. 50.
    Cochran (1954), Some methods for strengthening the common chi-square tests, Biometrics 10.
    """
    from scipy import stats

    pooled = _pooled(reference, fresh)
    if pooled is None:
        return Test("chi2")
    test = stats.chi2_contingency(pooled, correction=False)
    return Test("chi2", float(test.statistic), float(test.pvalue), _variation(pooled))


def variation(reference: Sequence[float], fresh: Sequence[float]) -> float:
    """The effect of two counts by level, from 0 to 1; rare levels are pooled.

    It is the total variation distance of the shares less its expectation without drift, for which
    each difference is normal about 0 and E|N(0, s)| = s sqrt(2 / pi); without that, a thousand
    undrifted levels look drifted.
    """
    pooled = _pooled(reference, fresh)
    return 0.0 if pooled is None else _variation(pooled)


def _pooled(reference: Sequence[float], fresh: Sequence[float]) -> np.ndarray[Any, Any] | None:
    """Both counts with their rare levels as one: float array (2, k); None where k is under 2."""
    import numpy as np

    counts = np.array([reference, fresh], dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    if counts.shape[1] < 2 or not totals.all():
        return None
    share = counts.sum(axis=0) / totals.sum()
    rare = (totals.min() * share) < _LEAST_EXPECTED
    pooled = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    return pooled if pooled.shape[1] >= 2 else None


def _variation(pooled: np.ndarray[Any, Any]) -> float:
    import numpy as np

    totals = pooled.sum(axis=1, keepdims=True)
    p = pooled.sum(axis=0) / totals.sum()
    distance = 0.5 * float(np.abs(np.subtract(*(pooled / totals))).sum())
    deviation = np.sqrt(p * (1 - p) * (1 / totals).sum())
    expected = 0.5 * math.sqrt(2 / math.pi) * float(deviation.sum())
    return max(0.0, distance - expected)


def nulls(reference: tuple[int, int], fresh: tuple[int, int]) -> Test:
    """The chi-square test of the share of nulls, of (nulls, values) on both sides.

    The effect is that of `chi2`: the difference of the shares less its expectation without drift.
    """
    test = chi2(reference, fresh)
    return Test("nulls", test.statistic, test.p_value, test.effect)
