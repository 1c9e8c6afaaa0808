"""Many rows scored in a stream: with each answer the row's identity and the model's version."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from etl_ml.deploy import Package
from etl_ml.deploy.signature import inputs_of
from etl_ml.extract import extract
from etl_ml.lake.identity import INTERNAL, ROW
from etl_ml.lake.parquet_file import ParquetFile, room
from etl_ml.lake.progress import Progress
from etl_ml.load.file import Place, write_batches
from etl_ml.spec.destination import FileDestination
from etl_ml.spec.error import EtlMlError, listed
from etl_ml.spec.source import Source
from etl_ml.train.metrics import decide
from etl_ml.train.trusted import read_model
from etl_ml.validate.inputs import InputRules, check_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_ml.lake import Version
    from etl_ml.lake.stores import StoreSettings
    from etl_ml.spec.contract import Contract
    from etl_ml.spec.pipeline import Pipeline

ROWS = 65_536
"""Rows that are scored at once: what is held in memory does not grow with their number."""


@dataclass
class Counts:
    """How many rows came by, and how many of them broke the contract and have no answer."""

    rows: int = 0
    refused: int = 0


class BatchScorer:
    """Answers for frames of rows.

    Parameters
    ----------
    package : whose model is asked
    pipeline : the one that is run, whose classes and function are trusted

    Attributes
    ----------
    columns : the feature columns by name, with their types and limits
    key : the columns that a row is known by, where the pipeline names some
    """

    def __init__(self, package: Package, pipeline: Pipeline | None = None) -> None:
        self.version = package.version
        said = json.loads(package.read("signature.json"))
        self.columns = inputs_of(said)
        self.key: list[str] = said["key"]
        self._rules = InputRules(self.columns, said["null_values"])
        self._model = read_model(
            package.read("model.skops"), pipeline, name=f"{package.url}/model.skops"
        )

    @property
    def answers(self) -> list[str]:
        """Names of the columns that `score` adds."""
        classes = [f"probability_{label}" for label in self._model.classes]
        return ["prediction", *classes, "model_version", "reasons"]

    def check(self, names: Collection[str], kept: Collection[str], where: str) -> None:
        """See that rows have the feature columns, and none that an answer would take the place of.

        Raises
        ------
        MissingInputs, EtlMlError
        """
        check_columns(names, self.columns, where)
        taken = [name for name in self.answers if name in kept]
        if taken:
            raise EtlMlError(
                f"the rows have a column {listed(map(repr, taken))}, which is an answer's.",
                where=where,
                fix="rename it",
            )

    def score(self, rows: pl.DataFrame, kept: Collection[str] = ()) -> pl.DataFrame:
        """Answers for n rows.

        Returns
        -------
        frame
            n rows: the kept columns as they are; `prediction`, the label or number;
            `probability_<label>` for each class; `model_version`; and `reasons`, which a row has
            that breaks the contract and therefore gets no prediction.
        """
        inputs = self._rules.check(rows)
        found = self._answered(inputs.values.filter(inputs.good))
        if not inputs.good.all():  # null where nothing was asked
            place = pl.when(inputs.good).then(inputs.good.cum_sum() - 1)
            found = found.select(pl.all().gather(pl.select(place).to_series()))
        return rows.select(kept).hstack(
            [
                *found.get_columns(),
                pl.repeat(self.version, len(rows), eager=True).alias("model_version"),
                inputs.reasons,
            ]
        )

    def _answered(self, values: pl.DataFrame) -> pl.DataFrame:
        classes = list(self._model.classes)
        if not len(values):  # scikit-learn refuses to be asked about nothing
            kind = pl.Series(classes).dtype if classes else pl.Float64
            empty = {"prediction": kind, **{f"probability_{c}": pl.Float64 for c in classes}}
            return pl.DataFrame(schema=empty)
        found = self._model.answers(values)
        if not classes:
            return pl.DataFrame({"prediction": found})
        labels = pl.Series("prediction", classes)[decide(found, self._model.threshold)]
        shares = {f"probability_{label}": found[:, i] for i, label in enumerate(classes)}
        return pl.DataFrame({"prediction": labels, **shares})


def score_version(
    scorer: BatchScorer, clean: Version, file: Path, log: Callable[[str], None]
) -> tuple[ParquetFile, Counts]:
    """Score the rows of a version of `clean_data` into a Parquet file."""
    scan = clean.table.scan()
    scorer.check(scan.collect_schema().names(), scorer.key, clean.url)
    frames = scan.collect_batches(engine="streaming", chunk_size=ROWS, maintain_order=False)
    kept = [*scorer.key, ROW]
    return _to_parquet(scorer, frames, kept, file, Progress("Scored", clean.table.rows, log))


def score_source(
    scorer: BatchScorer,
    source: Source,
    contract: Contract,
    file: Path,
    *,
    base: Path,
    settings: StoreSettings | None = None,
    log: Callable[[str], None],
) -> tuple[ParquetFile, Counts]:
    """Score the rows of a source into a Parquet file; see `extract` for what it raises."""
    read = extract(
        source,
        base=base,
        primary_key=scorer.key,
        contract=contract,
        settings=settings,
        log=None,
    )
    key = [name for name in scorer.key if name in read.columns]
    scorer.check(read.columns, key, source.address)
    frames = map(_frame, read.rows)
    return _to_parquet(scorer, frames, [*key, ROW], file, Progress("Scored", None, log))


def score_file(
    scorer: BatchScorer,
    source: Source,
    destination: FileDestination,
    *,
    base: Path,
    progress: Progress,
) -> Counts:
    """Score a file into another, which has its name only when it is whole.

    The answer has the columns of the input that are no features, and `_etl_ml_row`.

    Raises
    ------
    SourceError, MissingInputs, LoadError
    """
    read = extract(source, base=base, primary_key=scorer.key)
    kept = [n for n in read.columns if n not in scorer.columns and n not in INTERNAL]
    scorer.check(read.columns, kept, source.address)
    counts = Counts()
    frames = map(_frame, read.rows)
    scored = _scored(scorer, frames, [*kept, ROW], counts)
    with Place(destination, base, None).writing("") as sink:
        write_batches(scored, destination, sink, progress)
    return counts


def _scored(
    scorer: BatchScorer, frames: Iterable[pl.DataFrame], kept: Collection[str], counts: Counts
) -> Iterator[pl.DataFrame]:
    for frame in _gathered(frames):
        answers = scorer.score(frame, kept)
        counts.rows += len(answers)
        counts.refused += len(answers) - answers["reasons"].null_count()
        yield answers


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _gathered(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames of about `ROWS` rows: asking a model has a price of its own."""
    waiting: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        waiting.append(frame)
        rows += len(frame)
        if rows >= ROWS:
            yield from pl.concat(waiting).iter_slices(ROWS)
            waiting, rows = [], 0
    if waiting:
        yield pl.concat(waiting)


def _to_parquet(
    scorer: BatchScorer,
    frames: Iterable[pl.DataFrame],
    kept: Collection[str],
    file: Path,
    progress: Progress,
) -> tuple[ParquetFile, Counts]:
    counts = Counts()
    as_parquet = FileDestination(type="file", path=str(file), format="parquet")
    with room(file.parent), file.open("wb") as sink:
        write_batches(_scored(scorer, frames, kept, counts), as_parquet, sink, progress)
    progress.done()
    return ParquetFile(file), counts
