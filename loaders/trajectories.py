"""A set of runs: four lazy tables, their problems, and the verbs that every analysis starts from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import polars as pl

from loaders import stores
from loaders.errors import DerailError, LoadError
from loaders.linking import tools_of_all
from loaders.raw import raw_record
from loaders.schema import TABLES, TRAJECTORIES

if TYPE_CHECKING:
    from loaders.card import Summary

_KEYED = ("trajectories", "steps", "events")


PART_EVENTS = 1 << 16
"""About how many events a part of ``Trajectories.parts`` has; with four times as many, detection takes as
long and twice the memory."""


class Trajectories:
    """Runs in the one schema, in memory or scanned from a store.

    The tables are lazy: go on in plain Polars and ``collect()`` what you need.

    ``trajectories`` a row per run, ``steps`` per model call, ``events`` per ordered part, ``tools``
    per offered definition, ``problems`` per thing that was not read; columns are described in
    ``loaders.schema``. ``runs["id"]`` is one run, ``runs.filter(...)`` some, ``runs + others`` all.

    >>> import loaders, polars as pl
    >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
    >>> calls = runs.events.filter(pl.col("kind") == "tool_call").collect()
    >>> runs.filter(success=False).trajectories.collect()["success"].any()
    False
    """

    def __init__(
        self,
        tables: dict[str, pl.LazyFrame],
        stored_at: Stored | None = None,
        is_clustered: bool = False,
    ) -> None:
        self._tables = tables
        self._stored_at = stored_at
        self._is_clustered = is_clustered

    @classmethod
    def from_frames(cls, frames: dict[str, pl.DataFrame]) -> Trajectories:
        """From the five tables in memory."""
        tables = {name: frames[name].lazy() for name in TABLES}
        return cls(tables, is_clustered=all(frames[name]["run"].is_sorted() for name in _KEYED))

    @property
    def trajectories(self) -> pl.LazyFrame:
        """A row per run; see ``loaders.schema.TRAJECTORIES``, and the labels that you added."""
        return self._tables["trajectories"]

    @property
    def steps(self) -> pl.LazyFrame:
        """A row per model call; see ``loaders.schema.STEPS``."""
        return self._tables["steps"]

    @property
    def events(self) -> pl.LazyFrame:
        """A row per ordered part of a run; see ``loaders.schema.EVENTS``."""
        return self._tables["events"]

    @property
    def tools(self) -> pl.LazyFrame:
        """A row per offered tool definition; see ``loaders.schema.TOOLS``."""
        return self._tables["tools"]

    @property
    def problems(self) -> pl.LazyFrame:
        """What was not read, or read with doubt; see ``loaders.schema.PROBLEMS``."""
        return self._tables["problems"]

    def clustered(self, table: str) -> pl.LazyFrame:
        """``trajectories``, ``steps`` or ``events``, with all rows of a run together and runs ascending.

        Polars knows of it, so that ``group_by("run")`` streams any aggregation in little memory, and
        neighbours in the frame are neighbours in the run: ``shift`` needs only the mask that the run is
        the same. A store is so as it lies; tables in memory are sorted where they are not.

        >>> import loaders, polars as pl
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> same = pl.col("tool") == pl.col("tool").shift(1)
        >>> runs.clustered("events").group_by("run").agg(same.sum()).collect().height == len(runs)
        True
        """
        rows = self._tables[table]
        if not self._is_clustered:
            rows = rows.sort("run", maintain_order=True)
        return rows.set_sorted("run")

    def parts(self, events: int | None = None) -> Iterator[Trajectories]:
        """The runs in order, in sets of whole runs with about so many events each (``PART_EVENTS``).

        What looks at one run at a time can go through a store of any size in the memory of one part.

        >>> import loaders
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> sum(len(part) for part in runs.parts(events=500)) == len(runs)
        True
        """
        columns = ("run", "events") if self._is_clustered else ("run",)
        sizes = self.trajectories.select(columns).collect()
        if not self._is_clustered or sizes["events"].sum() <= (events or PART_EVENTS):
            yield self
            return
        before = pl.col("events").fill_null(0).cum_sum() - pl.col("events").fill_null(0)
        ranges = (
            sizes.sort("run")
            .group_by((before // (events or PART_EVENTS)).alias("part"), maintain_order=True)
            .agg(pl.col("run").min().alias("first"), pl.col("run").max().alias("last"))
        )
        for first, last in ranges.select("first", "last").iter_rows():
            yield self._between(sizes["run"].filter(sizes["run"].is_between(first, last)))

    def _between(self, runs: pl.Series) -> Trajectories:
        """From the first to the last of these runs, from no more files and row groups than it must be."""
        first, last = (pl.lit(end, pl.Int64) for end in (runs.min(), runs.max()))
        inside = pl.col("run").is_between(first, last)
        stored = self._stored_at
        tables = {"trajectories": self.trajectories.filter(inside)}
        for name in ("steps", "events"):
            table = self._tables[name]
            if stored is not None and stored.is_whole:
                table = stores.table(stored.folder, stored.manifest, name, runs)
            tables[name] = table.filter(inside)
        rest = None if stored is None else stored._replace(is_whole=False)
        return Trajectories({**self._tables, **tables}, rest, self._is_clustered)

    @property
    def stored_at(self) -> Path | None:
        """The folder of the store that these runs are read from; None where they are in memory."""
        return None if self._stored_at is None else self._stored_at.folder

    @cached_property
    def _collected_runs(self) -> pl.DataFrame:
        return self.trajectories.collect()

    @cached_property
    def _names(self) -> pl.DataFrame:
        """``run`` and ``trajectory_id`` of every run: enough to find one by its id."""
        return self.trajectories.select("run", "trajectory_id").collect()

    @property
    def ids(self) -> list[str]:
        """The ``trajectory_id`` of every run, in order."""
        return self._names["trajectory_id"].to_list()

    @property
    def labels(self) -> list[str]:
        """Columns of ``trajectories`` that came from a template or from ``label``."""
        return [n for n in self.trajectories.collect_schema().names() if n not in TRAJECTORIES]

    def __len__(self) -> int:
        return self.trajectories.select(pl.len()).collect().item()

    # ------------------------------------------------------------------ choose

    def filter(self, *predicates: pl.Expr | Iterable[str], **equal: Any) -> Trajectories:
        """The runs for which all hold, with their steps and events.

        ``predicates``: Polars expressions over ``trajectories`` (labels included), or ids of runs.
        ``equal``: column = value (None: not known), or column = list of values.

        Raises ``polars.exceptions.ColumnNotFoundError`` for an unknown column.

        >>> import loaders
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> len(runs.filter(runs.ids[:2]))
        2
        """
        conditions = [p if isinstance(p, pl.Expr) else _has_id(p) for p in predicates]
        conditions += [_equals(name, value) for name, value in equal.items()]
        kept = self._collected_runs.filter(*conditions) if conditions else self._collected_runs
        keys = kept.select("run")
        near = self._between(keys["run"])
        tables = {**near._tables, "trajectories": kept.lazy()}
        if kept.height < self._collected_runs.height:
            for name in ("steps", "events"):
                tables[name] = tables[name].join(
                    keys.lazy(), on="run", how="semi", maintain_order="left"
                )
        return Trajectories(tables, near._stored_at, self._is_clustered)

    def __getitem__(self, trajectory_id: str) -> Trajectories:
        """One run by its id, as a set of one.

        Raises ``KeyError`` where no run has it.

        >>> import loaders
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> len(runs[runs.ids[0]])
        1
        """
        found = self._names.filter(pl.col("trajectory_id") == str(trajectory_id))["run"]
        if found.is_empty():
            close = get_close_matches(str(trajectory_id), self.ids, 1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            raise KeyError(f"no run has the id {trajectory_id!r}.{meant} All ids are in runs.ids")
        return self._between(found)

    def _ipython_key_completions_(self) -> list[str]:
        return self.ids

    # ------------------------------------------------------------------ add

    def label(self, frame: pl.DataFrame | pl.LazyFrame, on: str | Sequence[str]) -> Trajectories:
        """The same runs with the columns of ``frame`` joined to ``trajectories`` by ``on``.

        A column that the schema has already (``arm``, ``success``) is filled where the frame has a
        value; any other is new.

        Raises ``DerailError`` where ``frame`` has several rows for one key, or a column that only
        loading can fill.

        >>> import loaders, polars as pl
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> mine = pl.DataFrame({"trajectory_id": runs.ids[:1], "split": ["pilot"]})
        >>> runs.label(mine, on="trajectory_id").labels[-1]
        'split'
        """
        keys = [on] if isinstance(on, str) else list(on)
        labels = frame.lazy().collect()
        if labels.select(keys).is_duplicated().any():
            raise DerailError(
                f"label() needs one row for each {keys}; the frame has several for some"
            )
        check_labels(name for name in labels.columns if name not in keys)
        runs = with_labels(self._collected_runs, labels, keys)
        tables = {**self._tables, "trajectories": runs.lazy()}
        return Trajectories(tables, self._stored_at, self._is_clustered)

    def with_steps(self, steps: pl.LazyFrame) -> Trajectories:
        """The same runs with other values in ``steps``, which has the same rows in the same order.

        The other tables are read from where they were; a store stays a store.

        >>> import loaders, polars as pl
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> blind = runs.with_steps(runs.steps.with_columns(thinking_sent=pl.lit(None, pl.Int64)))
        >>> blind.steps.collect()["thinking_sent"].is_null().all()
        True
        """
        rest = None if self._stored_at is None else self._stored_at._replace(is_whole=False)
        return Trajectories({**self._tables, "steps": steps}, rest, self._is_clustered)

    def __add__(self, other: Trajectories) -> Trajectories:
        """Both sets as one; runs are numbered through.

        Raises ``DerailError`` where the same run is in both.

        >>> import loaders
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> len(runs.filter(runs.ids[:1]) + runs.filter(runs.ids[1:])) == len(runs)
        True
        """
        twice = set(self.ids).intersection(other.ids)
        if twice:
            raise DerailError(
                f"{len(twice)} runs are in both sets, for example {min(twice)!r}; filter them out of one"
            )
        top = self._collected_runs["run"].max()
        offset = (top if isinstance(top, int) else -1) + 1
        tables: dict[str, pl.LazyFrame] = {}
        for name, mine in self._tables.items():
            theirs = other._tables[name]
            if name in _KEYED:
                theirs = theirs.with_columns(pl.col("run") + offset)
            tables[name] = pl.concat([mine, theirs], how="diagonal_relaxed")
        tables["tools"] = tools_of_all([self.tools.collect(), other.tools.collect()]).lazy()
        return Trajectories(tables, is_clustered=self._is_clustered and other._is_clustered)

    # ------------------------------------------------------------------ look closer

    def raw(self, trajectory_id: str, seq: int) -> Any:
        """The raw record behind an event, read again from the log, as a decoded JSON value.

        Raises ``KeyError`` for an unknown event, ``UnreadableRecord`` where the log has moved.

        >>> import loaders
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> runs.raw(runs.ids[0], 0) is not None
        True
        """
        run = self[trajectory_id]
        event = run.events.filter(pl.col("seq") == seq).select("source_pos").collect()
        if event.is_empty():
            raise KeyError(f"run {trajectory_id!r} has no event {seq}")
        name = run.trajectories.select("source").collect().item()
        return raw_record(name, event["source_pos"].item())

    @property
    def summary(self) -> Summary:
        """What the card shows, as plain values."""
        from loaders.card import summarize

        return summarize(self)

    def __repr__(self) -> str:
        return self.summary.as_text()

    def _repr_html_(self) -> str:
        return self.summary.as_html()

    # ------------------------------------------------------------------ keep

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the tables as Parquet into a folder; ``scan(path)`` opens them again.

        A store that is there already is replaced, once all of the new one is written.

        Raises ``DerailError`` where the folder holds something else, or is what this set is read from.

        >>> import loaders, tempfile
        >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = loaders.scan(runs.save(folder))
        ...     again.ids == runs.ids
        True
        """
        folder = Path(path)
        if (
            self._stored_at is not None
            and folder.exists()
            and folder.samefile(self._stored_at.folder)
        ):
            raise DerailError(f"these runs are read from {folder}; give another folder")
        with stores.writing_into(folder):
            stores.save(folder, self._tables)
        return folder


def _has_id(ids: Iterable[str]) -> pl.Expr:
    return pl.col("trajectory_id").is_in([ids] if isinstance(ids, str) else list(ids))


def _equals(name: str, value: Any) -> pl.Expr:
    if isinstance(value, list | tuple | set | frozenset | pl.Series):
        return pl.col(name).is_in(list(cast(Iterable[Any], value)), nulls_equal=True)
    return pl.col(name).is_null() if value is None else pl.col(name) == value


# ---------------------------------------------------------------------- labels

FILLABLE = (
    "framework",
    "framework_version",
    "model",
    "provider",
    "benchmark",
    "task_id",
    "trial",
    "arm",
    "outcome",
    "success",
    "score",
    "end_reason",
    "cost_usd",
)
"""Columns of the schema that a path or a frame of the user's may fill; the others come from logs."""


def check_labels(names: Iterable[str]) -> None:
    """Raise ``LoadError`` for a label that has the name of a column which only loading can fill."""
    for name in names:
        if name in TRAJECTORIES and name not in FILLABLE:
            raise LoadError(
                f"A label can't be called {name!r}: loading fills that column. Call it {name + '_label'!r}, "
                f"or fill one of these: {', '.join(FILLABLE)}."
            )


def with_labels(runs: pl.DataFrame, labels: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """``runs`` with the other columns of ``labels`` joined by ``keys``; known ones are filled.

    Raises ``LoadError`` for a value that a known column can't hold.
    """
    joined = runs.join(labels, on=keys, how="left", suffix="_label", maintain_order="left")
    for name in labels.columns:
        label = f"{name}_label"
        if name in keys or name not in runs.columns:
            continue
        given = joined[label]
        dtype = runs.schema[name]
        known = _yes_or_no(given) if dtype == pl.Boolean else given.cast(dtype, strict=False)
        if known.null_count() > given.null_count():
            bad = given.filter(known.is_null() & given.is_not_null())[0]
            raise LoadError(f"{bad!r} is no value for the column {name!r} ({_described(dtype)}).")
        joined = joined.with_columns(known.alias(label))
        joined = joined.with_columns(pl.coalesce(label, name).alias(name)).drop(label)
    return joined


def _yes_or_no(given: pl.Series) -> pl.Series:
    if given.dtype != pl.String:
        return given.cast(pl.Boolean, strict=False)
    words = {"true": True, "false": False, "1": True, "0": False}
    return given.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


def _described(dtype: pl.DataType) -> str:
    return f"one of {', '.join(dtype.categories)}" if isinstance(dtype, pl.Enum) else str(dtype)


# ---------------------------------------------------------------------- stores


class Stored(NamedTuple):
    """Where a set of runs is read from: a snapshot of a store."""

    folder: Path
    manifest: stores.Manifest
    is_whole: bool = True
    """Whether steps and events are all that are there."""


def scan(path: str | os.PathLike[str]) -> Trajectories:
    """Open a store that ``convert`` or ``save`` wrote; nothing is read before it is needed.

    It is the store as it is now: what is written into it later shows when it is opened again. Polars
    reads some twenty row groups ahead; with ``POLARS_ROW_GROUP_PREFETCH_SIZE=2`` in the environment a
    scan of texts takes half the memory and the same time.

    Raises ``LoadError`` where there is no store, or one of another schema version.

    >>> import loaders, tempfile
    >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(loaders.scan(runs.save(folder))) == len(runs)
    True
    """
    folder = Path(path)
    manifest = stores.manifest_of(folder)
    if manifest is None:
        unfinished = " A conversion into it has not ended: call it again." * is_begun(folder)
        raise LoadError(
            f"{folder} is no store of Derail.{unfinished} load() reads logs; convert() and save() write "
            "a store."
        )
    missing = next((file for file in manifest.opened() if not (folder / file).is_file()), None)
    if missing is not None:
        raise LoadError(
            f"{folder} is damaged: {missing} is missing. "
            + stores.made_anew_by(folder, manifest.given, resume=False)
        )
    tables = {name: stores.table(folder, manifest, name) for name in TABLES}
    return Trajectories(tables, Stored(folder, manifest), is_clustered=True)


def stored_content(runs: Trajectories) -> str | None:
    """A digest that tells the events and steps of a whole store from those of any other.

    None where this is not all of a store: in memory, a part of one, or with other values.

    >>> import loaders, tempfile
    >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = loaders.scan(runs.save(folder))
    ...     [len(stored_content(store)), stored_content(store[store.ids[0]]), stored_content(runs)]
    [16, None, None]
    """
    stored = runs._stored_at  # pyright: ignore[reportPrivateUsage]
    if stored is None or not stored.is_whole:
        return None
    return stores.content_of(stored.folder, stored.manifest)


def is_begun(folder: Path) -> bool:
    """Whether a store was begun there and not finished."""
    return (folder / stores.LOCK).exists()
