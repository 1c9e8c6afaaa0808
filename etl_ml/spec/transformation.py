"""`cleaning:`, `split:` and `features:` from valid rows to arrays."""

from typing import Literal, Self

from pydantic import Field, model_validator

from etl_ml.spec.section import Section


class Cleaning(Section):
    """What is taken out of valid rows."""

    duplicates: Literal["keep", "drop"] = Field(
        "keep", description="Rows that are equal in every column; they carry frequency."
    )
    drop_columns: tuple[str, ...] = Field((), description="Columns that clean_data does not have.")
    json_rows: int = Field(1_000_000, ge=0, description="Most rows in clean.jsonl.gz.")


class Split(Section):
    """Which rows train and which test; decided before anything is fitted."""

    strategy: Literal["hash", "stratified", "time", "group"] = Field(
        "hash",
        description="hash: by identity, the same tomorrow; stratified: equal shares of each class; "
        "time: train strictly before test; group: a group is on one side.",
    )
    test_size: float = Field(0.2, gt=0, lt=1, description="Share that tests.")
    column: str | None = Field(None, description="The time or group column.")
    seed: int = Field(42, ge=0, description="The salt of the hash, the shuffle of the others.")
    keep_duplicates_together: bool = Field(
        True, description="Rows with equal features never sit on both sides."
    )

    @model_validator(mode="after")
    def _has_its_column(self) -> Self:
        needed = self.strategy in ("time", "group")
        if needed and self.column is None:
            raise ValueError(f"column: name the {self.strategy} column")
        if self.column is not None and not needed:
            raise ValueError(f"column: strategy {self.strategy} has none; set time or group")
        return self


class Numeric(Section):
    """What happens to integer, float and boolean columns."""

    impute: Literal["mean", "median", "most_frequent", "constant", "knn"] = Field(
        "median",
        description="`constant` is 0; `knn` the mean of five neighbours, up to 10,000 training "
        "rows.",
    )
    add_indicator: bool = Field(
        False, description="A feature that says where a value was missing in training."
    )
    scale: Literal["none", "standard", "robust", "minmax"] = Field(
        "none", description="What is done to numbers after imputation."
    )


class Outliers(Section):
    """Limits learned from training rows."""

    method: Literal["none", "iqr", "zscore"] = Field(
        "none",
        description="Which numbers are outliers: far beyond the quartiles, or from the mean.",
    )
    factor: float = Field(3.0, gt=0, description="Interquartile ranges, or standard deviations.")
    action: Literal["clip", "null"] = Field("clip", description="What becomes of an outlier.")


class Categorical(Section):
    """What happens to string and category columns."""

    impute: Literal["most_frequent", "constant"] = Field(
        "most_frequent", description="`constant` makes missing a category of its own."
    )
    encode: Literal["one_hot", "ordinal", "target", "auto"] = Field(
        "auto", description="`auto`: one-hot up to 20 categories, target above."
    )


class Datetime(Section):
    """What is taken from date and datetime columns."""

    parts: tuple[Literal["year", "month", "day", "day_of_week", "hour"], ...] = Field(
        ("year", "month", "day_of_week", "hour"),
        min_length=1,
        description="Features that a moment is turned into.",
    )


class Features(Section):
    """From columns to numbers; everything learned is learned from training rows."""

    numeric: Numeric = Field(Numeric(), description="How numbers become features.")
    outliers: Outliers = Field(
        Outliers(), description="Limits that are learned from training rows."
    )
    categorical: Categorical = Field(Categorical(), description="How categories become features.")
    datetime: Datetime = Field(Datetime(), description="How moments become features.")
    exclude: tuple[str, ...] = Field(
        (), description="Columns that stay in the tables, and that no model sees."
    )
    function: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        examples=["module:function"],
        description="module:function, from a pandas frame of feature columns to one, row by row.",
    )
