"""Data sets that are already in memory: lists of messages, and frames of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec
import polars as pl

from loaders.discovery import Found, Labels
from loaders.errors import LoadError
from loaders.reading import load_found
from loaders.registry import choose
from loaders.sources import MemorySource
from loaders.trajectories import Trajectories, check_labels
from loaders.values import is_array, is_object, well_formed

Conversation = Sequence[Mapping[str, Any]] | Mapping[str, Any]


def from_messages(
    conversations: Iterable[Conversation] | Iterable[Mapping[str, Any]],
    format: str | ModuleType | None = None,
    **columns: object,
) -> Trajectories:
    """Runs from messages in memory, in any shape that ``load`` would read from a file.

    ``conversations``: a list of messages (one run); a list of such lists; or a list of records that
    hold messages, such as ``{"messages": [...], "tools": [...], "resolved": true}``. ``format`` as in
    ``load``. ``columns`` fill columns of ``trajectories`` or are new ones: a value for all runs, or a
    list with one for each.

    Returns ``Trajectories``. ``raw`` finds its records as long as this process lives.

    Raises ``LoadError`` where nothing could be read, or a list of values has another length.

    >>> chat = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    >>> runs = from_messages([chat, chat], task_id=["sum", "sum"], arm="plain")
    >>> runs.trajectories.select("task_id", "arm", "steps").collect().rows()
    [('sum', 'plain', 1), ('sum', 'plain', 1)]
    """
    given = [_plain(item) for item in _checked(conversations)]
    if given and all(is_object(item) and _is_message(item) for item in given):
        given = [given]
    return _read(given, format, _labels_of(columns, len(given)))


def from_frame(
    frame: Any,
    messages: str = "messages",
    *,
    run: str | Sequence[str] | None = None,
    format: str | ModuleType | None = None,
    **columns: str,
) -> Trajectories:
    """Runs from a Polars or pandas frame.

    Without ``run`` each row is a run: the column ``messages`` holds its messages, as lists or as JSON
    text, and what else the row holds is read as from a file of such rows. With ``run``, a column or
    several that name a run, each row is a message of it, in order, and its other columns are the
    message's keys (``role``, ``content``, ``tool_calls``...). ``columns``: column of ``trajectories``
    to column of the frame, such as ``task_id="instance_id", success="resolved"``.

    Returns ``Trajectories``, as ``from_messages`` does.

    Raises ``LoadError`` where a column is missing or nothing could be read.

    >>> import polars as pl
    >>> turns = pl.DataFrame({
    ...     "chat": [1, 1, 2, 2], "role": ["user", "assistant"] * 2,
    ...     "content": ["hi", "hello", "2 + 2?", "4"], "right": [True, True, False, False],
    ... })
    >>> runs = from_frame(turns, run="chat", success="right")
    >>> runs.trajectories.select("events", "success").collect().rows()
    [(2, True), (2, False)]
    """
    names, rows = _rows_of(frame)
    keys = [run] if isinstance(run, str) else list(run or [])
    wanted: set[str] = {*columns.values(), *(keys or [messages])}
    if missing := sorted(wanted - set(names)):
        raise LoadError(f"the frame has no column {missing[0]!r}; it has {', '.join(names)}")
    groups = _in_groups(rows, keys) if keys else [[row] for row in rows]
    labels = {column: [group[0][source] for group in groups] for column, source in columns.items()}
    taken = {*columns.values(), *keys}
    given = [_messages_of(group, taken) if keys else _row(group[0], messages) for group in groups]
    return _read(given, format, labels)


# ---------------------------------------------------------------------- read


def _read(
    given: Sequence[Any], format: str | ModuleType | None, labels: dict[str, list[Any]]
) -> Trajectories:
    check_labels(labels)
    encoded = [msgspec.json.encode(well_formed(item)) for item in given]
    name = hashlib.sha256(b"\0".join(encoded)).hexdigest()[:12]
    sources = [MemorySource(f"memory/{name}/{n}.json", data) for n, data in enumerate(encoded)]
    nothing: Labels = {}
    runs = load_found(
        [Found(source, nothing) for source in sources],
        choose(format),
        named=format is not None,
        what=f"{len(given)} conversations in memory",
    )
    if not labels:
        return runs
    keyed = pl.DataFrame({"source": [source.name for source in sources], **labels}, strict=False)
    return runs.label(keyed, on="source")


def _checked(conversations: object) -> Iterable[object]:
    if isinstance(conversations, str | bytes | Path) or not isinstance(conversations, Iterable):
        raise LoadError(
            f"from_messages() takes lists of messages, not {type(conversations).__name__}; load() "
            "reads files."
        )
    if isinstance(conversations, Mapping):
        return [cast(object, conversations)]
    return cast(Iterable[object], conversations)


_MESSAGE_KEYS = frozenset({"role", "kind", "type", "content", "parts", "from"})


def _is_message(value: dict[str, Any]) -> bool:
    """Whether a record is one message, and not one that holds messages."""
    if any(is_array(value.get(key)) for key in ("messages", "conversations", "input", "items")):
        return False
    return bool(_MESSAGE_KEYS & value.keys())


def _labels_of(columns: Mapping[str, object], count: int) -> dict[str, list[Any]]:
    labels: dict[str, list[Any]] = {}
    for name, value in columns.items():
        is_list = isinstance(value, list | tuple | pl.Series) or hasattr(value, "tolist")
        values: list[Any] = [*cast(Iterable[Any], value)] if is_list else [value] * count
        if len(values) != count:
            raise LoadError(f"{name} has {len(values)} values for {count} runs")
        labels[name] = [_plain(item) for item in values]
    return labels


# ---------------------------------------------------------------------- frames


def _rows_of(frame: Any) -> tuple[list[str], list[dict[str, Any]]]:
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame.columns, frame.to_dicts()
    if hasattr(frame, "to_dict") and hasattr(frame, "columns"):
        rows = cast(list[dict[Any, Any]], frame.to_dict(orient="records"))
        return [str(n) for n in frame.columns], [{str(k): v for k, v in r.items()} for r in rows]
    raise LoadError(f"from_frame() takes a Polars or pandas frame, not {type(frame).__name__}")


def _in_groups(rows: list[dict[str, Any]], keys: list[str]) -> list[list[dict[str, Any]]]:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(repr(row[key]) for key in keys), []).append(row)
    return list(groups.values())


def _messages_of(rows: list[dict[str, Any]], taken: set[str]) -> list[Any]:
    return [{k: v for k, v in _without_blanks(row).items() if k not in taken} for row in rows]


def _row(row: dict[str, Any], messages: str) -> Any:
    row = _without_blanks(row)
    value = row.pop(messages, None)
    if isinstance(value, str):
        with suppress(msgspec.DecodeError):  # stays text; the format will say that it can't be read
            value = msgspec.json.decode(value)
    return {"messages": value, **row}


def _without_blanks(row: dict[str, Any]) -> dict[str, Any]:
    """A frame fills with nulls what a message does not have."""
    return {key: plain for key, item in row.items() if (plain := _plain(item)) is not None}


def _plain(value: Any) -> Any:
    """As JSON can hold it: arrays as lists, NaN as null, times as text, nulls of structs left out."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return None if value != value else value  # noqa: PLR0124 - NaN alone differs from itself
    if isinstance(value, Mapping):
        items = cast(Mapping[Any, Any], value).items()
        return {str(k): p for k, item in items if (p := _plain(item)) is not None}
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        return _plain(value.tolist())
    if hasattr(value, "model_dump"):  # messages of a client library
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Iterable):
        return [_plain(item) for item in cast(Iterable[Any], value)]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
