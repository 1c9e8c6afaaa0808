"""The front door: clean rows become arrays to learn from and arrays to be judged by."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etl_ml.lake.estimator import dump_estimator
from etl_ml.lake.identity import ROW, hash_rows
from etl_ml.spec.error import listed
from etl_ml.spec.pipeline import Pipeline
from etl_ml.transform.function import find_function
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
    train_target, test_target : int64 (n,) and (m,), positions in `classes`; float64 for regression
    train_rows, test_rows : text (n,) and (m,), each row's `_etl_ml_row`
    train_units, test_units : int64 (n,) and (m,); rows with one number belong together
    train_order : int64 (n,), the rank of each row's time; None unless the split goes by time
    train_columns : the n rows before preprocessing, where it has to be learned anew in each fold
    classes : the labels; of two, the positive one is last; none for regression
    split : what `split.json` holds
    notes : what `preprocessing_report.json` holds
    problems : by the name of the blocking check that fails, what a person is told
    warnings : the same of checks that do not stop the run
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
    notes: dict[str, Any]
    train_order: Array | None = None
    train_columns: pl.DataFrame | None = None
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)

    def files(self) -> dict[str, Any]:
        """The asset's files by name."""
        files: dict[str, Any] = {
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
            "preprocessing_report.json": self.notes,
        }
        if self.train_order is not None:
            files["train_order.npy"] = self.train_order
        if self.train_columns is not None:
            files["train_columns.arrow"] = _ipc(self.train_columns)
        return files


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
    FeatureFunctionError, TooManyRows, TooManyCategories
        The preprocessor cannot learn what it was asked to.
    """
    import numpy as np

    from etl_ml.transform.notes import column_notes
    from etl_ml.transform.preprocessor import Preprocessor
    from etl_ml.transform.target_leakage import give_away

    features, target = pipeline.features_of(), pipeline.target.column
    if pipeline.features.function:
        find_function(pipeline.features.function)  # before any work is done
    # A table has no order; the arrays do, and it must be the same in every run.
    named = [*unit_columns(pipeline)[1], *filter(None, [pipeline.split.column])]
    keys = [name for name in dict.fromkeys(named) if name not in (*features, ROW)]
    frame = rows.select(*features, target, *keys, ROW).sort(ROW).collect(engine="streaming")
    sides = split(frame, pipeline, previous_split)
    train, test = frame.filter(sides.train), frame.filter(sides.test)
    classes = classes_of(frame[target], pipeline)
    train_target, test_target = (encoded(side[target], classes) for side in (train, test))
    preprocessor = Preprocessor.of(
        features, pipeline.features, classes=len(classes), seed=pipeline.split.seed
    )
    units = sides.units[sides.train]
    train_features = preprocessor.fit_transform(train, train_target, units)
    arrays = Arrays(
        train_features=train_features,
        train_target=train_target,
        train_rows=train[ROW].to_numpy().astype(str),
        train_units=units,
        test_features=preprocessor.transform(test),
        test_target=test_target,
        test_rows=test[ROW].to_numpy().astype(str),
        test_units=sides.units[sides.test],
        preprocessor=preprocessor,
        classes=classes,
        split=_report(sides, classes, frame[target], pipeline),
        notes=column_notes(train, preprocessor),
        train_order=None if sides.order is None else sides.order[sides.train].astype(np.int64),
        train_columns=train.select(list(features)) if preprocessor.depends_on_rows_ else None,
    )
    arrays.problems.update(_problems(arrays, train, test, pipeline))
    if found := give_away(train, features, train_target, classes=len(classes)):
        told = "; ".join(f"{name}: {how}" for name, how in found.items())
        for name, how in found.items():
            noted = arrays.notes.setdefault(name, {}).setdefault("notes", [])
            noted.append(f"gives the target away: {how}")
        arrays.warnings["no_leakage"] = (
            f"{target} can be read off {listed(found)}: {told}. Is it known before the target is? "
            "If not, add it to features.exclude."
        )
    return arrays


def rows_of(clean: pl.LazyFrame, row_ids: Array) -> pl.DataFrame:
    """The clean rows of an array's `_etl_ml_row`, in the array's order, which is sorted."""
    import polars as pl

    wanted = pl.LazyFrame({ROW: row_ids.tolist()})
    return clean.join(wanted, on=ROW, how="semi").sort(ROW).collect(engine="streaming")


def classes_of(target: pl.Series, pipeline: Pipeline) -> list[Any]:
    """The labels in order; of two, the positive one is last. None where numbers are predicted."""
    if pipeline.target.task == "regression":
        return []
    labels = sorted(target.unique().to_list())
    positive = pipeline.target.positive
    if len(labels) == 2 and positive is not None and labels[0] == positive:
        labels.reverse()
    return labels


def encoded(target: pl.Series, classes: list[Any]) -> Array:
    """The target as models take it: int64 positions in `classes`, or float64."""
    import numpy as np

    if not classes:
        return target.cast(float).to_numpy().astype(np.float64)
    places = {label: place for place, label in enumerate(classes)}
    return np.asarray([places[label] for label in target], dtype=np.int64)


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer)
    return buffer.getvalue()


def _report(
    sides: Sides, classes: list[Any], target: pl.Series, pipeline: Pipeline
) -> dict[str, Any]:
    def side(mask: Array) -> dict[str, Any]:
        import numpy as np

        found = {"rows": int(mask.sum()), "units": len(np.unique(sides.units[mask]))}
        if not classes:
            return found
        counts = dict(target.filter(mask).value_counts().iter_rows())
        return found | {"classes": [counts.get(label, 0) for label in classes]}

    report = {
        "strategy": pipeline.split.strategy,
        "seed": pipeline.split.seed,
        "test_size": pipeline.split.test_size,
        "unit": sides.unit,
        "columns": list(sides.columns),
        "classes": classes,
        "train": side(sides.train),
        "test": side(sides.test),
    }
    if sides.boundary is not None:
        moment = hasattr(sides.boundary, "isoformat")
        report["boundary"] = sides.boundary.isoformat() if moment else sides.boundary
    if sides.left_out is not None:
        report["left_out"] = int(sides.left_out.sum())
    return report


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
    elif told := _parted(train, test, pipeline):
        problems["no_leakage"] = told
    names = arrays.preprocessor.feature_names_out_
    sides = (arrays.train_features, arrays.test_features)
    finite = np.logical_and.reduce([np.isfinite(side).all(axis=0) for side in sides])
    if not np.all(finite):
        bad = [name for place, name in enumerate(names) if not finite[place]]
        problems["finite"] = f"features with NaN or infinite values: {', '.join(bad[:8])}."
    return problems


def _parted(train: pl.DataFrame, test: pl.DataFrame, pipeline: Pipeline) -> str | None:
    """What is on both sides of a split by group or time, if anything is."""
    column = pipeline.split.column
    if column is None:
        return None
    if pipeline.split.strategy == "time":
        last, first = train[column].max(), test[column].min()
        if last < first:  # type: ignore[operator]
            return None
        return f"training rows reach {last!s}, test rows begin at {first!s}."
    shared = set(train[column].unique()) & set(test[column].unique())
    return f"{len(shared)} groups are on both sides of the split." if shared else None
