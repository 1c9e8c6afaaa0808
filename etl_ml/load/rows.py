"""The rows of one version of clean_data, on their way to a destination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_ml.lake.identity import INTERNAL, ROW
from etl_ml.load.load_error import LoadError
from etl_ml.spec.contract import TEXTS, Column, ColumnType, Contract
from etl_ml.spec.error import bounded, listed

if TYPE_CHECKING:
    import polars as pl

    from etl_ml.lake import Version


@dataclass(frozen=True)
class Rows:
    """Rows that can be read again from the start.

    Attributes
    ----------
    version : the version's ten digits
    total : the number of rows
    columns : by name, in order, without `_etl_ml_row`; what is not in the contract has its type
        from the data and is nullable
    sensitive : whether some values may be shown nowhere
    """

    version: str
    total: int
    columns: Mapping[str, Column]
    sensitive: bool
    _source: Version

    @classmethod
    def of(cls, version: Version, contract: Contract) -> Rows:
        """The rows of a version, each column in the type that the contract says."""
        schema = version.table.scan().collect_schema()
        columns = {
            name: contract.columns.get(name) or Column(type=_type_of(kind))
            for name, kind in schema.items()
            if name not in INTERNAL
        }
        return cls(
            version.version, version.table.rows, columns, bool(contract.sensitive()), version
        )

    def batches(self, size: int) -> Iterator[pl.DataFrame]:
        """Frames of about `size` rows, the columns in order, then `_etl_ml_row`; in no order."""
        for frame in self._scan().collect_batches(
            engine="streaming", chunk_size=size, maintain_order=False
        ):
            yield from frame.iter_slices(size)

    def empty(self) -> pl.DataFrame:
        """A batch without rows."""
        return self._scan().head(0).collect()

    def _scan(self) -> pl.LazyFrame:
        import polars as pl

        chosen = [
            pl.col(name).cast(_polars_types()[column.type])
            if column.type not in TEXTS
            else pl.col(name)
            for name, column in self.columns.items()
        ]
        chosen.append(pl.col(ROW))
        scan = self._source.table.scan().select(chosen)
        return scan.with_columns(*_as_text(scan, self.columns))

    def refuse_null_key(self, frame: pl.DataFrame, key: Sequence[str]) -> None:
        """Raise a LoadError if a cell of the key is null."""
        import polars as pl

        for name in key:
            if frame[name].null_count():
                row = frame.filter(pl.col(name).is_null())[ROW][0]
                raise LoadError(
                    f"column {name!r} is null in row {row}: it is part of the key.",
                    fix=f"set contract.columns.{name}.nullable: false, or choose another key",
                )

    def refuse_doubles(self, key: Sequence[str]) -> None:
        """Raise a LoadError if two rows of the version have one key."""
        import polars as pl

        scan = self._source.table.scan()
        twice = scan.group_by(key).agg(pl.len().alias("_etl_ml_count"))
        found = twice.filter(pl.col("_etl_ml_count") > 1).head(1).collect(engine="streaming")
        if found.height:
            same = found.drop("_etl_ml_count").lazy()
            rows = scan.join(same, on=list(key)).select(ROW).head(2).collect()[ROW].to_list()
            raise LoadError(
                f"two rows have one key ({listed(key)}).",
                seen=f"rows {listed(rows)}",
                fix="choose a key that is unique",
            )

    def too_long(self, frame: pl.DataFrame, limits: Mapping[str, int]) -> None:
        """Raise a LoadError if a text has more characters than the destination's column."""
        import polars as pl

        for name, limit in limits.items():
            longest = frame[name].str.len_chars().max() if name in frame.columns else None
            if isinstance(longest, int) and longest > limit:
                row = frame.filter(pl.col(name).str.len_chars() > limit)[ROW][0]
                raise LoadError(
                    f"column {name!r}: a text of {longest} characters does not fit, "
                    f"{limit} are allowed.",
                    seen=f"row {row}",
                    fix=f"set contract.columns.{name}.max_length: {limit}, or widen the column",
                )

    def not_finite(self, frame: pl.DataFrame) -> None:
        """Raise a LoadError if a number is NaN or infinite, which the destination cannot hold."""
        import polars as pl

        for name, column in self.columns.items():
            if column.type == "float" and not frame[name].is_finite().all():
                row = frame.filter(~pl.col(name).is_finite())[ROW][0]
                raise LoadError(
                    f"column {name!r} is not a finite number in row {row}: "
                    "the destination has no such value.",
                    fix=f"set contract.columns.{name}.min and max",
                )


def same_columns(
    have: Sequence[str], want: Sequence[str], optional: Sequence[str], place: str
) -> None:
    """Raise a LoadError that names what an existing table lacks and has too much."""
    missing = [name for name in want if name not in have]
    foreign = [name for name in have if name not in (*want, *optional)]
    if missing or foreign:
        parts = [f"it lacks {listed(missing)}"] if missing else []
        parts += [f"it has {listed(foreign)} too"] if foreign else []
        raise LoadError(
            f"{place} has other columns than the rows: {'; '.join(parts)}.",
            seen=bounded(listed(have), 200),
            fix="name another table, or give this one the same columns",
        )


def _type_of(kind: pl.DataType) -> ColumnType:
    import polars as pl

    if kind.is_integer() and kind != pl.UInt64:
        return "integer"
    if kind.is_float():
        return "float"
    if kind == pl.Boolean:
        return "boolean"
    if kind == pl.Date:
        return "date"
    return "datetime" if kind == pl.Datetime else "string"


def _polars_types() -> dict[ColumnType, pl.DataType | type[pl.DataType]]:
    import polars as pl

    return {
        "integer": pl.Int64,
        "float": pl.Float64,
        "boolean": pl.Boolean,
        "datetime": pl.Datetime("us", "UTC"),
        "date": pl.Date,
    }


def _as_text(scan: pl.LazyFrame, columns: Mapping[str, Column]) -> list[pl.Expr]:
    """What no destination has a type for, as text: lists and structs as JSON."""
    import polars as pl

    texts = []
    for name, kind in scan.collect_schema().items():
        if name == ROW or columns[name].type not in TEXTS or kind == pl.String:
            continue
        column = pl.col(name)
        if isinstance(kind, pl.List | pl.Array):
            column = pl.struct(column).struct.json_encode()
        elif isinstance(kind, pl.Struct):
            column = column.struct.json_encode()
        texts.append(column.cast(pl.String).alias(name))
    return texts
