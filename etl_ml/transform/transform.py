"""The front door: clean rows become arrays to learn from and arrays to be judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml.lake.estimator import dump_estimator
from etl_ml.lake.identity import ROW, hash_rows
from etl_ml.spec.pipeline import Pipeline
from etl_ml.transform.split import Sides, leaks, split, unit_columns

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from etl_ml.transform.preprocessor import Preprocessor

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Arrays:
    """What `transformed_arrays` holds; n training rows, m test rows, k features.

    Attributes
    ----------
    train_features, test_features : float32 (n, k) and (m, k)
    train_target, test_target : int64 (n,) and (m,), positions in `classes`
    train_rows, test_rows : text (n,) and (m,), each row's `_etl_ml_row`
    train_units, test_units : int64 (n,) and (m,); rows with one number belong together
    classes : the labels; of two, the positive one is last
    split : what `split.json` holds
    problems : by the name of the blocking check that fails, what a person is told
    """

    train_features: Array
    train_target: Array
    train_rows: Array
    train_units: Array
    test_features: Array
    test_target: Array
    test_rows: Array
    test_units: Array
    preprocessor: Preprocessor
    classes: list[Any]
    split: dict[str, Any]
    problems: dict[str, str]

    def files(self) -> dict[str, Any]:
        """The asset's files by name."""
        return {
            "train_features.npy": self.train_features,
            "train_target.npy": self.train_target,
            "train_rows.npy": self.train_rows,
            "train_units.npy": self.train_units,
            "test_features.npy": self.test_features,
            "test_target.npy": self.test_target,
            "test_rows.npy": self.test_rows,
            "test_units.npy": self.test_units,
            "preprocessor.skops": dump_estimator(self.preprocessor),
            "feature_names.json": self.preprocessor.feature_names_out_,
            "split.json": self.split,
        }


def transform(
    rows: pl.LazyFrame, pipeline: Pipeline, previous_split: Mapping[str, Any] | None = None
) -> Arrays:
    """Split clean rows, fit the preprocessor on the training side, transform both sides.

    Parameters
    ----------
    rows : lazy frame of clean rows with `_etl_ml_row`; collected
    previous_split : the last version's `split.json`, so that rows keep their sides

    Raises
    ------
    SplitError
        The rows cannot be split as asked.
    """
    import numpy as np

    from etl_ml.transform.preprocessor import Preprocessor

    features, target = pipeline.features_of(), pipeline.target.column
    # A table has no order; the arrays do, and it must be the same in every run.
    keys = [name for name in unit_columns(pipeline)[1] if name not in features]
    frame = rows.select(*features, target, *keys, ROW).sort(ROW).collect(engine="streaming")
    sides = split(frame, pipeline, previous_split)
    train, test = frame.filter(~sides.test), frame.filter(sides.test)
    classes = classes_of(frame[target], pipeline)
    preprocessor = Preprocessor.of(features, pipeline.features).fit(train)
    places = {label: place for place, label in enumerate(classes)}

    def encoded(side: pl.DataFrame) -> Array:
        return np.asarray([places[label] for label in side[target]], dtype=np.int64)

    arrays = Arrays(
        train_features=preprocessor.transform(train),
        train_target=encoded(train),
        train_rows=train[ROW].to_numpy().astype(str),
        train_units=sides.units[~sides.test],
        test_features=preprocessor.transform(test),
        test_target=encoded(test),
        test_rows=test[ROW].to_numpy().astype(str),
        test_units=sides.units[sides.test],
        preprocessor=preprocessor,
        classes=classes,
        split=_report(sides, classes, frame[target], pipeline),
        problems={},
    )
    arrays.problems.update(_problems(arrays, train, test, pipeline))
    return arrays


def rows_of(clean: pl.LazyFrame, row_ids: Array) -> pl.DataFrame:
    """The clean rows of an array's `_etl_ml_row`, in the array's order, which is sorted."""
    import polars as pl

    wanted = pl.LazyFrame({ROW: row_ids.tolist()})
    return clean.join(wanted, on=ROW, how="semi").sort(ROW).collect(engine="streaming")


def classes_of(target: pl.Series, pipeline: Pipeline) -> list[Any]:
    """The labels in order; of two, the positive one is last."""
    labels = sorted(target.unique().to_list())
    positive = pipeline.target.positive
    if len(labels) == 2 and positive is not None and labels[0] == positive:
        labels.reverse()
    return labels


def _report(
    sides: Sides, classes: list[Any], target: pl.Series, pipeline: Pipeline
) -> dict[str, Any]:
    def side(mask: Array) -> dict[str, Any]:
        import numpy as np

        counts = dict(target.filter(mask).value_counts().iter_rows())
        return {
            "rows": int(mask.sum()),
            "units": len(np.unique(sides.units[mask])),
            "classes": [counts.get(label, 0) for label in classes],
        }

    return {
        "strategy": pipeline.split.strategy,
        "seed": pipeline.split.seed,
        "test_size": pipeline.split.test_size,
        "unit": sides.unit,
        "columns": list(sides.columns),
        "classes": classes,
        "train": side(~sides.test),
        "test": side(sides.test),
    }


def _problems(
    arrays: Arrays, train: pl.DataFrame, test: pl.DataFrame, pipeline: Pipeline
) -> dict[str, str]:
    """Leakage and infinities, looked for in what comes out and not in how it was made."""
    import numpy as np

    problems = {}
    shared = leaks(arrays.train_rows, arrays.test_rows)
    columns = list(pipeline.features_of())
    equal = 0
    if pipeline.split.keep_duplicates_together:
        known, asked = (
            hash_rows(side.select(columns).to_arrow(), columns) for side in (train, test)
        )
        equal = leaks(known, asked)
    if shared or equal:
        problems["no_leakage"] = (
            f"{shared} rows, and {equal} different feature rows, are on both sides of the split."
        )
    names = arrays.preprocessor.feature_names_out_
    sides = (arrays.train_features, arrays.test_features)
    finite = np.logical_and.reduce([np.isfinite(side).all(axis=0) for side in sides])
    if not np.all(finite):
        bad = [name for place, name in enumerate(names) if not finite[place]]
        problems["finite"] = f"features with NaN or infinite values: {', '.join(bad[:8])}."
    return problems
