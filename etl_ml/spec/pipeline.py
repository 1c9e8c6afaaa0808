"""A pipeline: the whole of one `defs.yaml`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from etl_ml.spec.automation import Automation
from etl_ml.spec.contract import TEXTS, Column, Contract
from etl_ml.spec.deployment import Deployment, Predictions
from etl_ml.spec.destination import Destination, check_destinations
from etl_ml.spec.error import nearest
from etl_ml.spec.evaluation import Evaluation
from etl_ml.spec.learning import check_columns, check_training
from etl_ml.spec.partitions import Partitions
from etl_ml.spec.resources import Step, StepResources
from etl_ml.spec.retention import Retention
from etl_ml.spec.section import Section
from etl_ml.spec.source import WITHOUT_SCHEMA, FileSource, MongoSource, Source, SqlSource
from etl_ml.spec.stream import Stream
from etl_ml.spec.training import Candidate, Metric, Task, Training
from etl_ml.spec.transformation import Cleaning, Features, Split
from etl_ml.spec.validation import Validation


class Target(Section):
    """What is predicted."""

    column: str = Field(description="The contracted column that is predicted.")
    task: Task = Field("classification", description="Whether a class or a number is predicted.")
    positive: bool | int | str | None = Field(
        None, description="Binary only; must be named unless the labels are 0 and 1."
    )


class Pipeline(Section):
    """One pipeline, from its source to its deployed model."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        examples=["small_letters_digits_2"],
        max_length=60,
        description="Asset key prefix and group.",
    )
    description: str = Field("", description="What is predicted and why, for people; Markdown.")
    owners: tuple[Annotated[str, Field(pattern=r"^(team:.+|[^@\s]+@[^@\s]+)$")], ...] = Field(
        (),
        description="`team:name` or e-mail addresses.",
        examples=["team:name", "name@example.com"],
    )
    source: Source = Field(description="Where rows come from.")
    contract: Contract = Field(description="What a row has to be.")
    target: Target = Field(description="The column that is predicted, and as what.")
    validation: Validation = Field(
        Validation(), description="How many rows may break the contract, and what drift is."
    )
    cleaning: Cleaning = Field(
        Cleaning(), description="What is done before the split: duplicates and columns."
    )
    split: Split = Field(Split(), description="Which rows test.")
    features: Features = Field(
        Features(), description="How columns become numbers, learned from training rows alone."
    )
    training: Training = Field(
        Training(), description="Which candidates are trained, and how the best is found."
    )
    evaluation: Evaluation = Field(
        Evaluation(), description="What a model has to reach before it is deployed."
    )
    deployment: Deployment = Field(
        Deployment(), description="Where the champion goes, and who approves it."
    )
    lake: Retention = Field(
        Retention(), description="What a good run leaves; never what the registry needs."
    )
    load: tuple[Destination, ...] = Field((), description="Where clean rows, or the model, go.")
    predictions: Predictions | None = Field(
        None, description="Score rows with the champion in each run; `{}` for clean_data."
    )
    automation: Automation = Field(
        Automation(), description="When the pipeline runs by itself, and who is told."
    )
    partitions: Partitions | None = Field(
        None, description="Read the source day by day; days can be read again, one or many."
    )
    resources: dict[Step, StepResources] = Field(
        {}, description="Memory and processors by asset, where each step has a pod."
    )

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        columns = self.contract.columns
        if self.target.column not in columns:
            close = nearest(self.target.column, columns)
            hint = f"; did you mean {close!r}?" if close else ""
            raise ValueError(
                f"target.column: {self.target.column!r} is not under contract.columns{hint}"
            )
        for name in self.cleaning.drop_columns:
            if name == self.target.column:
                raise ValueError(f"cleaning.drop_columns: {name!r} is the target")
            if name not in columns and self.contract.unknown_columns != "keep":
                raise ValueError(f"cleaning.drop_columns: {name!r} is not under contract.columns")
        check_columns(
            columns,
            self.target.column,
            self.cleaning,
            self.split,
            self.features,
            self.evaluation,
        )
        if not self.features_of():
            raise ValueError(
                "contract.columns: no feature is left, all are target, key, group, excluded or "
                "dropped"
            )
        if columns[self.target.column].sensitive:
            raise ValueError(
                "target.column: a sensitive column cannot be the target, "
                "its labels are in every report"
            )
        check_training(
            self.training, self.evaluation, self.target.task, columns[self.target.column]
        )
        if self.target.task == "regression":
            if self.target.positive is not None:
                raise ValueError("target.positive: is for classification")
            return self
        labels = columns[self.target.column].allowed
        obvious = labels is None or len(labels) != 2 or set(labels) == {0, 1}
        if labels and not obvious and self.target.positive is None:
            raise ValueError(f"target.positive: name one of the labels {list(labels)}")
        if labels and self.target.positive is not None:
            if self.target.positive not in labels:
                raise ValueError(f"target.positive: not one of the labels {list(labels)}")
            if len(labels) > 2:
                raise ValueError(f"target.positive: there are {len(labels)} labels, not two")
        return self

    @model_validator(mode="after")
    def _source_can_be_read(self) -> Self:
        source, contract = self.source, self.contract
        if isinstance(source, WITHOUT_SCHEMA) and contract.unknown_columns == "keep":
            raise ValueError(
                f"contract.unknown_columns: a {source.type} source has no columns but the "
                "contract's; name those to keep under contract.columns, or set fail or drop"
            )
        if source.incremental is None or isinstance(source, Stream):
            return self
        cursor, place = source.incremental.cursor, "source.incremental"
        if isinstance(source, FileSource):
            if source.incremental.lag_seconds or source.incremental.lag_rows:
                raise ValueError(f"{place}: files are read when they are new; a lag has no meaning")
            if cursor is None:
                return self
        elif cursor is None:
            raise ValueError(f"{place}.cursor: name the column that grows, e.g. updated_at")
        if not self.row_key():
            raise ValueError(f"{place}: needs contract.primary_key, to know a row again")
        if cursor not in contract.columns and not (
            isinstance(source, MongoSource) and cursor == "_id"
        ):
            close = nearest(cursor, contract.columns)
            hint = f"; did you mean {close!r}?" if close else ""
            raise ValueError(f"{place}.cursor: {cursor!r} is not under contract.columns{hint}")
        kind = contract.columns[cursor].type if cursor in contract.columns else "string"
        texts = ("boolean", "string", "category") if isinstance(source, SqlSource) else ("boolean",)
        if kind in texts:
            reason = (
                "depends on the database's collation" if kind != "boolean" else "has two values"
            )
            raise ValueError(f"{place}.cursor: the order of a {kind} column {reason}; name another")
        unit = "lag_seconds" if self.cursor_carries_time() else "lag_rows"
        wrong = "lag_rows" if self.cursor_carries_time() else "lag_seconds"
        if getattr(source.incremental, wrong) is not None:
            raise ValueError(f"{place}.{wrong}: the lag of cursor {cursor!r} is given by {unit}")
        return self

    @model_validator(mode="after")
    def _resources_are_of_steps(self) -> Self:
        if "loaded_data" in self.resources and not self.load:
            raise ValueError("resources.loaded_data: there is no such step without load")
        if "predictions" in self.resources and self.predictions is None:
            raise ValueError("resources.predictions: there is no such step without predictions")
        return self

    @model_validator(mode="after")
    def _destinations_agree(self) -> Self:
        dropped = self.cleaning.drop_columns
        check_destinations(self.load, self.contract, self.contract.primary_key, dropped)
        for place, destination in enumerate(self.load):
            same = destination.type == self.source.type
            if same and destination.what == "clean_data":
                shown = self.source.address.rstrip("/")
                if shown == destination.display.rstrip("/"):
                    raise ValueError(
                        f"load.{place}: this is the source; it would be overwritten by what was "
                        "read from it. Name another place"
                    )
        return self

    @model_validator(mode="after")
    def _automation_can_be_done(self) -> Self:
        asked, days = self.automation.new_data, self.partitions
        if days is not None:
            self._check_days(days)
        if asked is not None and asked.watch and not isinstance(self.source, MongoSource):
            raise ValueError(
                f"automation.new_data.watch: a {self.source.type} source has no change stream; "
                "leave it out, and what is new is counted"
            )
        return self

    def _check_days(self, days: Partitions) -> None:
        place, columns = "partitions", self.contract.columns
        if not isinstance(self.source, MongoSource | SqlSource):
            raise ValueError(
                f"{place}: a {self.source.type} source cannot be asked for a day; it is for "
                "mongodb and sql. Give files a name a day and read them with source.incremental: {}"
            )
        if self.source.incremental is not None:
            raise ValueError(
                f"{place}: a run reads whole days, or with source.incremental what is new; "
                "leave one of them out"
            )
        if self.automation.new_data is not None:
            raise ValueError(
                f"{place}: a day is read by schedule or by hand; automation.new_data has no day "
                "to ask for. Use automation.schedule, or source.incremental without partitions"
            )
        if days.column not in columns:
            close = nearest(days.column, columns)
            hint = f"; did you mean {close!r}?" if close else ""
            raise ValueError(f"{place}.column: {days.column!r} is not under contract.columns{hint}")
        kind = columns[days.column].type
        if kind not in ("date", "datetime"):
            raise ValueError(f"{place}.column: {days.column!r} is of type {kind}, and has no day")

    @property
    def grows(self) -> bool:
        """Whether `raw_data` keeps rows of earlier runs, so that a key may stand in several."""
        return self.source.incremental is not None or self.partitions is not None

    @property
    def newest_by(self) -> str | None:
        """The column whose largest value is the newest row of a key; None: the last one read."""
        if self.partitions is not None:
            return self.partitions.column
        return self.source.incremental.cursor if self.source.incremental is not None else None

    def row_key(self) -> tuple[str, ...]:
        """The columns that identify a row; none when only all its cells do."""
        return self.contract.primary_key or self.source.identity

    def cursor_carries_time(self) -> bool:
        """Whether the cursor is a moment, or a MongoDB ObjectId, which begins with one."""
        cursor = self.source.incremental.cursor if self.source.incremental else None
        column = self.contract.columns.get(cursor or "")
        if column is None or (isinstance(self.source, MongoSource) and cursor == "_id"):
            return column is None or column.type in TEXTS
        return column.type in ("datetime", "date")

    @property
    def metric(self) -> Metric:
        """The metric that ranks the candidates."""
        return self.training.metric_of(self.target.task)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates that are tried."""
        return self.training.candidates_of(self.target.task)

    @property
    def names_code(self) -> bool:
        """Whether it names a function, a class, a parameter or a library that may not be there."""
        others = self.features.function or self.training.tracking
        return bool(others) or any(candidate.names_code for candidate in self.candidates)

    def required(self) -> frozenset[str]:
        """Columns that are never null: the target, the key, and what the split goes by."""
        by = {self.split.column} if self.split.column else set()
        return frozenset({self.target.column, *self.contract.primary_key, *by})

    def features_of(self) -> dict[str, Column]:
        """The columns that a model sees, in the contract's order.

        A group is no feature: the groups that a model will meet are not those that it has seen.
        """
        left = {self.target.column, *self.contract.primary_key, *self.cleaning.drop_columns}
        left |= set(self.features.exclude)
        if self.split.strategy == "group" and self.split.column:
            left.add(self.split.column)
        return {name: column for name, column in self.contract.columns.items() if name not in left}
