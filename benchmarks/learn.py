"""What a default training finds and costs, on tables that everybody has.

python benchmarks/learn.py phishing CSV    ten seeds of the UCI phishing websites
python benchmarks/learn.py toys            scikit-learn's own tables, beside its own defaults
python benchmarks/learn.py preprocess      1 M × 30 mixed columns, beside ColumnTransformer
python benchmarks/learn.py memory          peak of transform and train on 1 M × 30 mixed columns
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl_ml.lake import Contents, Lake, Version, open_lake
from etl_ml.lake.identity import ROW, Identity
from etl_ml.spec import Pipeline, parse
from etl_ml.train import load_model, train
from etl_ml.train.cross_validation import TrainingRows
from etl_ml.train.metrics import scores_of
from etl_ml.transform import transform

_SEEDS = 10
_ROWS = 1_000_000


def identified(frame: pl.DataFrame) -> pl.DataFrame:
    identity = Identity()
    rows = [identity.of(batch) for batch in frame.to_arrow().to_batches()]
    return frame.with_columns(pl.concat([pl.Series(part) for part in rows]).alias(ROW))


def pipeline_of(frame: pl.DataFrame, column: str, **sections: Any) -> Pipeline:
    def kind(dtype: pl.DataType) -> str:
        if dtype == pl.String:
            return "category"
        return "integer" if dtype.is_integer() else "float"

    columns = {name: {"type": kind(dtype)} for name, dtype in frame.schema.items()}
    attributes: dict[str, Any] = {
        "name": "bench",
        "source": {"type": "file", "path": "rows.csv"},
        "contract": {"columns": columns},
        "target": {"column": column},
    }
    for name, section in sections.items():
        attributes[name] = attributes.get(name, {}) | section
    return parse(attributes, file="defs.yaml")


def arrays_of(lake: Lake, frame: pl.DataFrame, pipeline: Pipeline) -> Version:
    arrays = transform(frame.lazy(), pipeline)
    return lake.write("bench", "transformed_arrays", Contents(files=arrays.files()))


def phishing(path: Path) -> None:
    frame = identified(pl.read_csv(path))
    print("| split | mean test F1, phishing | legitimate (label 1) | CPU s a training |")
    print("|---|---|---|---|")
    for name, split in (
        ("stratified", {"strategy": "stratified", "keep_duplicates_together": False}),
        ("stratified, duplicates together", {"strategy": "stratified"}),
        ("hash, duplicates together (default)", {}),
    ):
        phish, legitimate, spent = [], [], []
        for seed in range(_SEEDS):
            settings = {"split": split | {"seed": seed}, "training": {"seed": seed}}
            found = pipeline_of(frame.drop(ROW), "Result", target={"positive": -1}, **settings)
            with tempfile.TemporaryDirectory() as folder:
                lake = open_lake(folder)
                arrays = arrays_of(lake, frame, found)
                start = time.process_time()
                trained = train(arrays, found)
                spent.append(time.process_time() - start)
                files = Contents(files=trained.files())
                model = load_model(lake.write("bench", "trained_model", files))
                features = arrays.read("test_features.npy")
                answers = model.estimator.predict_proba(features)  # type: ignore[union-attr]
                test = scores_of(arrays.read("test_target.npy"), np.asarray(answers))
                phish.append(test.value("f1"))
                turned = scores_of(1 - test.target, np.asarray(answers)[:, ::-1])
                legitimate.append(turned.value("f1"))
        means = f"{np.mean(phish):.4f} | {np.mean(legitimate):.4f}"
        print(f"| {name} | {means} | {np.median(spent):.1f} |", flush=True)


def toys() -> None:
    """Our winner's cross-validated mean beside the best of scikit-learn's own, same folds."""
    from sklearn import datasets
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import cross_val_score

    print("| table | ours | scikit-learn's best | standard error |")
    print("|---|---|---|---|")
    for name in ("breast_cancer", "wine", "digits", "diabetes"):
        frame = pl.from_pandas(getattr(datasets, f"load_{name}")(as_frame=True).frame)
        number = name == "diabetes"
        task = {"task": "regression" if number else "classification"}
        found = pipeline_of(frame, "target", target=task)
        with tempfile.TemporaryDirectory() as folder:
            arrays = arrays_of(open_lake(folder), identified(frame), found)
            best = train(arrays, found).leaderboard[0]
            rows = TrainingRows.read(arrays, found)
        folds = [(np.flatnonzero(a), np.flatnonzero(b)) for a, b in rows.folds]
        classifiers = (LogisticRegression(max_iter=5000), RandomForestClassifier(random_state=42))
        peers = (Ridge(), RandomForestRegressor(random_state=42)) if number else classifiers
        scoring = "r2" if number else ("f1" if len(rows.classes) == 2 else "f1_macro")
        means = {
            type(peer).__name__: cross_val_score(
                peer, rows.features, rows.target, cv=folds, scoring=scoring
            ).mean()
            for peer in peers
        }
        peer = max(means, key=lambda key: means[key])
        error = best["std"] / np.sqrt(len(folds))
        print(
            f"| {name} | {best['candidate']} {best['mean']:.4f} | {peer} {means[peer]:.4f} | "
            f"{error:.4f} |",
            flush=True,
        )


def mixed(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for number in range(18):
        values = rng.normal(size=rows)
        values[rng.random(rows) < 0.05] = np.nan
        columns[f"x{number}"] = pl.Series(values).fill_nan(None)
    for number in range(6):
        columns[f"n{number}"] = rng.integers(0, 1000, rows)
    for number in range(6):
        names = np.array([f"level {k:02}" for k in range(4 + 2 * number)])
        columns[f"c{number}"] = names[rng.integers(0, len(names), rows)]
    risk = np.nan_to_num(np.asarray(columns["x0"].to_numpy())) + rng.normal(size=rows)
    columns["y"] = (risk > 0).astype(np.int64)
    return pl.DataFrame(columns)


def preprocess(rows: int) -> None:
    from lightgbm import LGBMClassifier
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from etl_ml.transform.preprocessor import Preprocessor

    frame = mixed(rows)
    found = pipeline_of(frame, "y", features={"numeric": {"scale": "standard"}})
    ours = Preprocessor.of(found.features_of(), found.features)
    names = [n for n in frame.columns if n != "y"]
    texts = [n for n in names if n.startswith("c")]
    pandas = frame.select(names).to_pandas()
    peer = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
                [n for n in names if n not in texts],
            ),
            (
                "texts",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"),
                    OneHotEncoder(sparse_output=False, dtype=np.float32, handle_unknown="ignore"),
                ),
                texts,
            ),
        ]
    )
    target = frame["y"].to_numpy()
    mine, features = measured(lambda: ours.fit_transform(frame.select(names), target))
    theirs, expected = measured(lambda: peer.fit_transform(pandas))
    largest = float(np.abs(np.asarray(expected, np.float64) - features).max())
    print("| 1 M × 30 mixed | CPU s | |")
    print("|---|---|---|")
    print(f"| ColumnTransformer | {theirs:.1f} | |")
    print(f"| ours | {mine:.1f} | {theirs / mine:.1f} × less, values within {largest:.1g} |")
    booster = LGBMClassifier(n_estimators=100, verbosity=-1, random_state=0)
    alone, _ = measured(lambda: booster.fit(features, target))
    ratio = (mine + alone) / alone
    print(f"| LightGBM, 100 trees, on ready features | {alone:.1f} | |")
    print(f"| with our preprocessing | {mine + alone:.1f} | {ratio:.2f} × |")


def memory(rows: int) -> None:
    """Peaks of a process that finds its rows in a file, as a step finds them in the lake."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        writer = multiprocessing.get_context("spawn").Process(target=_write, args=(rows, path))
        writer.start()
        writer.join()
        training = {"candidates": [{"lightgbm": {"n_estimators": 100}}]}
        found = pipeline_of(pl.read_parquet(path, n_rows=1000).drop(ROW), "y", training=training)
        print(f"| {rows:,} × 30 mixed | peak GB |")
        print("|---|---|")
        start = _peak()
        lake = open_lake(Path(folder) / "lake")
        arrays = transform(pl.scan_parquet(path).drop_nulls("y"), found)
        version = lake.write("bench", "transformed_arrays", Contents(files=arrays.files()))
        del arrays
        print(f"| before | {start:.2f} |\n| after transform | {_peak():.2f} |")
        train(version, found)
        print(f"| after train | {_peak():.2f} |")


def _write(rows: int, path: Path) -> None:
    identified(mixed(rows)).write_parquet(path)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["phishing", "toys", "preprocess", "memory"])
    parser.add_argument("csv", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=_ROWS)
    given = parser.parse_args()
    if given.what == "phishing":
        if given.csv is None:
            parser.error("phishing needs the path of the UCI table as CSV, with the column Result")
        phishing(given.csv)
    elif given.what == "toys":
        toys()
    elif given.what == "memory":
        memory(given.rows)
    else:
        preprocess(given.rows)


if __name__ == "__main__":
    main()
