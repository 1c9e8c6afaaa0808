"""Folds that follow the split: what belongs together stays together, and time runs forward."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.spec.pipeline import Pipeline
from etl_ml.transform.split import shuffled

Array = np.ndarray[Any, Any]
Fold = tuple[Array, Array]


class TrainingError(EtlMlError):
    """Nothing can be learned from the training rows as asked."""


def folds_of(
    target: Array,
    units: Array,
    classes: list[Any],
    pipeline: Pipeline,
    order: Array | None = None,
) -> list[Fold]:
    """The rows that are fitted and those that are held out, of each fold: two bool arrays (n,).

    Without time, every row is held out once, and of each class about the same share. With time,
    the rows are cut into folds + 1 parts of one time after the other; each part but the first is
    held out once, and what is fitted is all that was before, less rows whose unit came before.

    Parameters
    ----------
    order : int64 array (n,), the rank of each row's time, ties alike

    Raises
    ------
    TrainingError
        A class cannot be in every fold.
    """
    if order is not None:
        return _forward(target, units, classes, pipeline, order)
    held = _stratified(target, units, classes, pipeline) if classes else _plain(units, pipeline)
    return [(held != number, held == number) for number in range(pipeline.training.folds)]


def _plain(units: Array, pipeline: Pipeline) -> Array:
    folds = pipeline.training.folds
    place, count = shuffled(units, pipeline.training.seed)
    if count < 2 * folds:
        raise TrainingError(
            f"{pipeline.name}: {count} different training rows are too few for training.folds = "
            f"{folds}.",
            where="training.folds",
            fix="use fewer folds, or give it more rows",
        )
    fold: Array = place % folds
    return fold


def _stratified(target: Array, units: Array, classes: list[Any], pipeline: Pipeline) -> Array:
    """The fold of each row: int array (n,). A unit's rows stay in one fold.

    Units are stratified by the class of which they hold the largest share: where rows repeat, a
    rare class may be the most frequent one of no unit.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = pipeline.training.folds
    _, member = np.unique(units, return_inverse=True)
    votes = np.zeros((int(member.max()) + 1, len(classes)))
    np.add.at(votes, (member, target), 1)
    sizes = (votes > 0).sum(axis=0)
    named = "groups of" if pipeline.split.strategy == "group" else "different"
    fix = "use fewer folds, or give it more rows of that class"
    if sizes.min() < folds:
        raise TrainingError(
            f"{pipeline.name}: class {bounded(classes[int(sizes.argmin())])} has {sizes.min()} "
            f"{named} training rows, fewer than training.folds = {folds}.",
            where="training.folds",
            fix=fix,
        )
    label = (votes / votes.sum(axis=0)).argmax(axis=1)
    unit_fold = np.empty(len(label), np.int64)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=pipeline.training.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held_out) in enumerate(splitter.split(label, label)):
            unit_fold[held_out] = number
    fold: Array = unit_fold[member]
    for place, name in enumerate(classes):
        if len(np.unique(fold[target == place])) < folds:
            raise TrainingError(
                f"{pipeline.name}: the rows of class {bounded(name)} repeat so often that one of "
                f"{folds} folds has none.",
                where="training.folds",
                fix=fix,
            )
    return fold


def _forward(
    target: Array, units: Array, classes: list[Any], pipeline: Pipeline, order: Array
) -> list[Fold]:
    count = pipeline.training.folds
    ranked = np.sort(order)
    edges = [ranked[len(order) * number // (count + 1)] for number in range(1, count + 1)]
    part = np.searchsorted(np.asarray(edges), order, side="right")
    together = pipeline.split.keep_duplicates_together
    folds = []
    for number in range(1, count + 1):
        inside, held_out = part < number, part == number
        if together:
            held_out &= ~np.isin(units, units[inside])
        for rows, where in ((inside, "before"), (held_out, "in")):
            present = np.unique(target[rows])
            lacking = len(present) < max(len(classes), 1)
            if lacking:
                missing = [bounded(c) for i, c in enumerate(classes) if i not in present]
                raise TrainingError(
                    f"{pipeline.name}: {where} part {number + 1} of {count + 1} in time there is "
                    f"no {'row of class ' + ', '.join(missing) if missing else 'new row'}.",
                    seen=f"{int(rows.sum())} rows",
                    where="training.folds",
                    fix="use fewer folds, or give it rows of a longer time",
                )
        folds.append((inside, held_out))
    return folds
