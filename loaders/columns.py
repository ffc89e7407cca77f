"""Rows of Python's objects as typed columns, fast where all values fit and exact where some do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from types import NoneType
from typing import Any, Final, cast

import polars as pl

from loaders.values import is_array, is_object

_PLAIN: Final[set[type]] = {NoneType, str, bool, int, float}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def with_ids(
    frame: pl.DataFrame, ids: pl.Series, first_run: int, schema: pl.Schema
) -> pl.DataFrame:
    """The rows of events or steps with the id of each one's run.

    Put together of columns: an expression of Polars' takes longer than all else of a small log.
    """
    runs = frame["run"]
    columns = {
        "run": runs.set_sorted(),
        "trajectory_id": ids.gather(runs - first_run).alias("trajectory_id"),
    }
    return pl.DataFrame(
        [columns[name] if name in columns else frame[name] for name in schema.names()]
    )


def frame_of_columns(
    columns: Iterable[Sequence[Any]], names: Sequence[str], schema: pl.Schema
) -> pl.DataFrame:
    """Columns whose values are known to be of their types."""
    columns = [*columns]
    if not columns[0]:
        return no_rows(tuple(names), tuple(schema[name] for name in names))
    return pl.DataFrame(
        [_typed(name, values, schema[name]) for name, values in zip(names, columns, strict=True)]
    )


def extend_columns(columns: Sequence[list[Any]], more: Iterable[Sequence[Any]]) -> None:
    """Put the values of further rows behind those of each column."""
    for values, others in zip(columns, more, strict=True):
        values += others


@cache
def no_rows(names: tuple[str, ...], types: tuple[pl.DataType, ...]) -> pl.DataFrame:
    """A table without rows; made once, for it takes as long as one with some."""
    return pl.DataFrame(schema=dict(zip(names, types, strict=True)))


def _typed(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    if are_null(values):
        return nulls(name, len(values), dtype)
    if isinstance(dtype, pl.Datetime | pl.List | pl.Struct):
        return fast_column(name, values, dtype)
    return pl.Series(name, values, dtype=dtype, strict=True)


def frame_of_records(records: Sequence[dict[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    """Records whose values are known to be of their columns' types; null for what one lacks."""
    columns = ([record.get(name) for record in records] for name in schema)
    return frame_of_columns(columns, schema.names(), schema)


def are_null(values: Sequence[Any]) -> bool:
    """Whether there is no value; looks at all of them only where it must."""
    return not values or (values[0] is None and values.count(None) == len(values))


def nulls(name: str, count: int, dtype: pl.DataType) -> pl.Series:
    return _null(dtype).new_from_index(0, count).alias(name)


@cache
def _null(dtype: pl.DataType) -> pl.Series:
    return pl.Series([None], dtype=dtype)


def together(number: str, *frames: pl.DataFrame) -> pl.DataFrame:
    """Rows of all columns and rows of some of them, by run and ``number``; the first is of all."""
    filled = [frame for frame in frames if not frame.is_empty()]
    if not filled or (len(filled) == 1 and filled[0] is frames[0]):
        return frames[0]
    whole = pl.concat(filled, how="diagonal")
    missing = [
        pl.lit(None, dtype).alias(name)
        for name, dtype in frames[0].schema.items()
        if name not in whole.columns
    ]
    whole = whole.with_columns(missing).select(frames[0].columns)
    return whole if len(filled) == 1 else whole.sort("run", number)


def fast_column(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """A column whose values are all of its type.

    Raises one of several errors where one is not. Polars makes moments and nested values one by one
    and slowly out of Python's objects, so that they are taken apart here: 6 and 50 times faster. A
    nested value of a wrong type could also cost it gigabytes before it refuses it.
    """
    if isinstance(dtype, pl.Datetime):
        since = [None if value is None else value - _EPOCH for value in values]
        durations = pl.Series(name, since, dtype=pl.Duration("us"), strict=True)
        return durations.cast(pl.Int64).cast(dtype)
    if isinstance(dtype, pl.List):
        return _lists(name, values, cast(pl.DataType, dtype.inner))
    if isinstance(dtype, pl.Struct):
        if not set(map(type, values)) <= {dict}:
            raise TypeError(f"{name} has values that are no objects")
        fields = [
            fast_column(
                field.name, [value.get(field.name) for value in values], cast(Any, field.dtype)
            )
            for field in dtype.fields
        ]
        return pl.DataFrame(fields).to_struct(name)
    if not set(map(type, values)) <= _PLAIN:
        raise TypeError(f"{name} has values that are neither text nor numbers")
    return pl.Series(name, values, dtype=dtype, strict=True)


def _lists(name: str, values: Sequence[Any], inner: pl.DataType) -> pl.Series:
    """A column of lists: all items as one column, put together again by the lists' lengths."""
    if not set(map(type, values)) <= {NoneType, list, tuple}:
        raise TypeError(f"{name} has values that are no lists")
    rows = [row for row, value in enumerate(values) for _ in value or ()]
    items = fast_column(name, [item for value in values for item in value or ()], inner)
    numbered = pl.DataFrame([pl.Series("row", rows, dtype=pl.Int64).set_sorted(), items])
    lists = numbered.group_by("row", maintain_order=True).agg(name)[name]
    first_empty = len(lists)
    lists = pl.concat([lists, pl.Series(name, [[]], dtype=pl.List(inner))])
    places = iter(range(first_empty))
    found = [None if v is None else next(places) if v else first_empty for v in values]
    return lists.gather(pl.Series(found, dtype=pl.UInt32))


_FITS: dict[type[pl.DataType], Callable[[Any], bool]] = {
    pl.String: lambda value: isinstance(value, str),
    pl.Boolean: lambda value: isinstance(value, bool),
    pl.Int64: lambda value: type(value) is int and -(2**63) <= value < 2**63,
    pl.Float64: lambda value: type(value) in (int, float),
    pl.Datetime: lambda value: isinstance(value, datetime) and value.tzinfo is not None,
}


def fits(value: Any, dtype: pl.DataType) -> bool:
    """Whether a value can stand in a column of this type."""
    if value is None:
        return True
    if isinstance(dtype, pl.Enum):
        return value in list(dtype.categories)
    if isinstance(dtype, pl.List):
        return is_array(value) and all(fits(item, cast(Any, dtype.inner)) for item in value)
    if isinstance(dtype, pl.Struct):
        return is_object(value) and all(
            fits(value.get(field.name), cast(Any, field.dtype)) for field in dtype.fields
        )
    return _FITS[dtype.base_type()](value)
