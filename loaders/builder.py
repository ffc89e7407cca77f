"""Builds the tables column by column while a format reads.

Rows are kept as tuples for a chunk and then turned into typed columns, so that no object lives per
event and memory stays near the size of the text.
"""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec
import polars as pl

from loaders.columns import (
    are_null,
    extend_columns,
    fast_column,
    fits,
    frame_of_columns,
    no_rows,
    nulls,
    together,
    with_ids,
)
from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.marks import marked, stands_under_marker
from loaders.redact import may_hold_credentials, redact_column, redact_object, redact_text
from loaders.run import Run
from loaders.schema import CALLERS, EVENTS, PROBLEMS, SPAWNS, STEPS, TOOLS, TRAJECTORIES
from loaders.sources import MAX_LISTED_PROBLEMS, Counted, Source
from loaders.steps import COLUMNS as STEP_COLUMNS
from loaders.steps import Step, columns_of
from loaders.values import as_json, fingerprint, well_formed
from loaders.whole_runs import EVENT_ROW, STEP_ROW, RowsByKind

_ROWS_PER_CHUNK = 16_384
_BYTES_PER_CHUNK = 16 << 20
_CHUNKS_HELD = 4
_LONG = 1 << 14
"""Characters of JSON in which to look for credentials first takes less than to go through its value."""
_REASON_CHARS, _ERROR_CHARS = 500, 250
_EVENT_COLUMNS = [name for name in EVENTS if name != "trajectory_id"]
_run_row = itemgetter(*TRAJECTORIES)
_SOURCE, _FORMAT = list(TRAJECTORIES).index("source"), list(TRAJECTORIES).index("format")

_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = [one + other for one in _BASE32 for other in _BASE32]

Frames = dict[str, pl.DataFrame]
Columns = list[list[Any]]
_Gathered = TypeVar("_Gathered", bound=RowsByKind)


class NotKept(BaseException):
    """What was told could not be handed over: no log is to blame, and reading on is of no use."""


class Builder:
    """Collects what formats tell of the runs in many sources; ``frames`` is what came of it.

    ``hand_over`` takes the trajectories, steps and events told so far whenever there are enough of
    them, the events of a run, and maybe its steps, before its trajectory if it is long; ``frames`` then holds the
    rest, and memory stays bounded in one large source too.
    """

    def __init__(self, hand_over: Callable[[Frames], None] | None = None) -> None:
        self._hand_over = hand_over
        self._runs_handed_over = 0
        self._bytes_held = self._bytes_known = 0
        self.format = ""
        self.logs_thinking = "if_present"
        self.event_rows: list[tuple[Any, ...]] = []
        self.spawn_rows: list[tuple[int, int, str, str]] = []
        self.caller_rows: list[tuple[int, str, str | None, str]] = []
        self._told_events: Columns = [[] for _ in EVENT_ROW]
        self._gathered: dict[Callable[[], RowsByKind], RowsByKind] = {}
        self._told_steps: Columns = [[] for _ in STEP_ROW]
        self._step_columns: Columns = [[] for _ in STEP_COLUMNS]
        self._run_rows: list[tuple[Any, ...]] = []
        self.problem_rows: list[tuple[Any, ...]] = []
        self._tool_rows: dict[str, list[tuple[Any, ...]]] = {}
        self._tool_hashes: dict[tuple[str, str, str | None], str] = {}
        self._companions: set[str] = set()
        self.rows_per_chunk = _ROWS_PER_CHUNK
        self._chunks: list[pl.DataFrame] = []
        self._bytes_of_chunks = 0
        self._bytes_in_chunk = 0
        self._warned: dict[tuple[str, str, str], tuple[int, int]] = {}
        self.counted: dict[int, Counted] = {}
        """By their place in ``problem_rows``, those that say how often something was so."""
        self._source: Source | None = None
        self._open_run: Run | None = None
        self._runs_in_source = 0
        self._problems_before = 0
        self._unlisted = 0
        self._is_marked = False
        self._is_revocable = False

    # ------------------------------------------------------------------ for formats

    def trajectory(
        self, *, native_id: str | None = None, pos: str | None = None, **columns: Any
    ) -> Run:
        """A run begins; the one told before it is closed and takes no more events.

        ``pos`` where in the source it stands; other columns as in ``schema.TRAJECTORIES``. The
        ``trajectory_id`` comes from the format, the content of the source and the run's place in
        it: the same on each reload, wherever the file lies.
        """
        self._close_run()
        source = self._reading
        place = str(source.runs_before + self._runs_in_source)
        identity = (self.format, source.hash, native_id or "", place)
        number = self._runs_handed_over + len(self._run_rows)
        run = Run(
            self,
            number,
            {
                "trajectory_id": short_id(*identity),
                "native_id": native_id,
                "source": source.name,
                "source_hash": source.hash,
                "source_pos": pos,
                "format": self.format,
                "run": number,
                **columns,
            },
        )
        self._runs_in_source += 1
        self._open_run = run
        return run

    def problem(
        self,
        pos: str | None,
        reason: str,
        severity: str = "error",
        trajectory_id: str | None = None,
    ) -> None:
        """A row of ``problems`` for the source being read."""
        self._add_problem(self._reading.name, pos, severity, reason, trajectory_id)

    @contextmanager
    def record(self, pos: str | None) -> Generator[None]:
        """Read one independent record: if it can't be, it is a problem and the next one is read."""
        try:
            yield
        except UnreadableRecord as error:
            self.problem(error.position or pos or self._reading.position, error.reason)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            self.problem(pos or self._reading.position, f"{where}{error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - one hostile record must not stop the others
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.problem(
                pos or self._reading.position,
                f"{type(error).__name__}: {_shortened(str(error), _ERROR_CHARS)} "
                f"({Path(place.filename).name}:{place.lineno}); what stands before it is kept",
            )

    @property
    def hands_over(self) -> bool:
        """Whether what is told does not stay in memory."""
        return self._hand_over is not None

    @contextmanager
    def revocable(self, by: type[Exception]) -> Generator[None]:
        """Tell what may have to be told anew: if ``by`` is raised, what was told here is forgotten.

        Nothing is handed over meanwhile.
        """
        self._close_run()
        self.flush_events()
        chunks, size, runs = len(self._chunks), self._bytes_of_chunks, self._runs_in_source
        links = len(self.spawn_rows), len(self.caller_rows)
        problems, unlisted = self.problem_rows.copy(), self._unlisted
        counted, warned = self.counted.copy(), self._warned.copy()
        self._is_revocable = True
        try:
            yield
        except by:
            self._open_run = None
            self._clear_rows()
            del self._chunks[chunks:], self.spawn_rows[links[0] :], self.caller_rows[links[1] :]
            self._bytes_of_chunks, self._runs_in_source = size, runs
            self.problem_rows, self._unlisted = problems, unlisted
            self.counted, self._warned = counted, warned
            raise
        finally:
            self._is_revocable = False

    # ------------------------------------------------------------------ for the registry

    @property
    def _reading(self) -> Source:
        if self._source is None:
            raise RuntimeError("no source is being read")
        return self._source

    @property
    def runs_in_source(self) -> int:
        """How many runs the present source has given so far."""
        return self._runs_in_source

    def begin(self, source: Source, format_name: str, logs_thinking: str) -> None:
        """What is told next comes from this source."""
        self._source, self.format, self.logs_thinking = source, format_name, logs_thinking
        self._runs_in_source = self._unlisted = 0
        self._problems_before = len(self.problem_rows)
        self._bytes_known = 0
        self._is_marked = stands_under_marker(source.path)

    def end(self) -> None:
        """The source is read, or can't be read further: close the open run, keep its problems."""
        self._close_run()
        for file in files_of(self._reading):
            for position, severity, reason, counted in file.take_problems():
                if counted is not None:
                    self.counted[len(self.problem_rows)] = counted
                self._add_problem(file.name, position, severity, reason, None)
            self._companions.update(companion.name for companion in file.companions)
            with suppress(OSError, UnreadableRecord):
                self._bytes_in_chunk += file.size
                self._bytes_held += file.size
            file.release()
        if self._unlisted:
            reason = f"{self._unlisted:,} more problems, not listed"
            self.problem_rows.append(self._problem_row(self._reading.name, None, "error", reason))
        if self._bytes_in_chunk >= _BYTES_PER_CHUNK:
            self.flush_events()
        if self._bytes_held >= _BYTES_PER_CHUNK:
            self._hand_over_told()

    def has_problem(self, source: Source) -> bool:
        """Whether anything of the source being read was not read, or read with doubt."""
        return len(self.problem_rows) > self._problems_before or any(
            file.problems for file in files_of(source)
        )

    def _close_run(self) -> None:
        if self._open_run is not None:
            run, self._open_run = self._open_run, None
            for rows in self._gathered.values():
                rows.turn()
            with self.record(run.columns["source_pos"]):
                run.close()

    def _add_problem(
        self, source: str, pos: str | None, severity: str, reason: str, run: str | None
    ) -> None:
        if len(self.problem_rows) - self._problems_before < MAX_LISTED_PROBLEMS:
            self.problem_rows.append(self._problem_row(source, pos, severity, reason, run))
        else:
            self._unlisted += 1

    def _problem_row(
        self, source: str, pos: str | None, severity: str, reason: str, run: str | None = None
    ) -> tuple[Any, ...]:
        reason = redact_text(_shortened(reason, _REASON_CHARS))[0]
        return (source, pos, severity, reason, self.format or None, run)

    # ------------------------------------------------------------------ for runs

    def toolset(self, definitions: Iterable[tuple[str | None, str | None, Any]]) -> str:
        """Keep an offer of tools once and return its fingerprint.

        Neither the order of the tools changes it nor that of the keys in their parameters.
        """
        rows: list[tuple[Any, ...]] = []
        for name, description, parameters in definitions:
            definition = (name or "", description or "", as_json(parameters))
            name_hash = self._tool_hashes.get(definition)
            if name_hash is None:
                name_hash = fingerprint(name or "", description or "", _canonical(parameters))
                self._tool_hashes[definition] = name_hash
            rows.append((name, description, definition[2], name_hash))
        rows.sort(key=lambda row: row[3])
        toolset = fingerprint(*(row[3] for row in rows))
        self._tool_rows.setdefault(toolset, rows)
        return toolset

    def redacted_json(self, value: Any, pos: str | None) -> str | None:
        """JSON text without credentials; each one taken out is counted as a warning.

        What comes written as ``msgspec.Raw`` is known to hold none.
        """
        if value is None or value == {}:
            return None
        if isinstance(value, msgspec.Raw):
            return bytes(value).decode()
        text = as_json(value)
        if text is not None and len(text) >= _LONG and not may_hold_credentials(text):
            return text
        clean, count = redact_object(value)
        if not count:
            return text
        self.problem(pos, f"{count} credentials redacted in params or metadata", "warning")
        return as_json(clean)

    def add_rows(
        self,
        run: int,
        events: Sequence[tuple[Any, ...]],
        steps: Sequence[tuple[Any, ...]],
        toolset: str | None,
    ) -> None:
        """Rows of a whole run as in ``Rows``: few enough to be in the processor's cache still."""
        if events:
            runs = [run] * len(events)
            extend_columns(self._told_events, (runs, *zip(*events, strict=True)))
        if steps:
            count = len(steps)
            alike = [toolset] * count, ["unknown"] * count
            extend_columns(self._told_steps, ([run] * count, *zip(*steps, strict=True), *alike))

    def add_steps(self, steps: Sequence[Step]) -> None:
        """Steps that are finished."""
        for columns in columns_of(steps):
            extend_columns(self._step_columns, columns)

    def gathered(self, kind: Callable[[], _Gathered]) -> _Gathered:
        """The one gatherer of a kind, for formats that put rows of events into columns themselves."""
        if kind not in self._gathered:
            self._gathered[kind] = kind()
        return cast(_Gathered, self._gathered[kind])

    def flush_if_many(self) -> None:
        """Turn the rows told so far into columns where they are enough for a chunk."""
        if self._rows_held >= self.rows_per_chunk:
            self.flush_events()

    @property
    def _rows_held(self) -> int:
        gathered = sum(rows.count for rows in self._gathered.values())
        return len(self.event_rows) + len(self._told_events[0]) + gathered

    def _clear_rows(self) -> None:
        for rows in (self.event_rows, *self._told_events, *self._gathered.values()):
            rows.clear()

    def finish(self, run: Run) -> None:
        """Take the closed run's rows."""
        self.add_steps(run.steps)
        if self._is_marked:
            run.columns["metadata"] = marked(run.columns["metadata"])
        self._run_rows.append(_run_row(run.columns))
        self.flush_if_many()
        told = self._reading.bytes_told
        if told - self._bytes_known >= _BYTES_PER_CHUNK:
            self._bytes_known = told
            self._hand_over_told()

    # ------------------------------------------------------------------ rows to columns

    def flush_events(self) -> None:
        """Turn the rows told so far into columns, so that a long run too is no heap of objects."""
        self._bytes_in_chunk = 0
        if self._rows_held:
            frame = together(
                "seq",
                self._frame(self.event_rows, _EVENT_COLUMNS, EVENTS),
                frame_of_columns(self._told_events, EVENT_ROW, EVENTS),
                *(frame for rows in self._gathered.values() for frame in rows.frames()),
            )
            self._clear_rows()
            self._chunks.append(self._redacted(frame, "text", "arguments"))
            self._bytes_of_chunks += int(frame.estimated_size())
            is_enough = self._bytes_of_chunks >= _BYTES_PER_CHUNK
            if is_enough or len(self._chunks) >= _CHUNKS_HELD:
                self._hand_over_told()

    def _hand_over_told(self) -> None:
        """Let go of all that is told so far; of the open run that is its events and finished steps.

        Raises ``NotKept`` where whoever takes it fails.
        """
        if self._hand_over is None or self._is_revocable:
            return
        self.flush_events()
        if not self._chunks and not self._run_rows:  # the flush has done it
            return
        try:
            self._hand_over(self._told())
        except Exception as error:
            raise NotKept from error
        self._runs_handed_over += len(self._run_rows)
        self._bytes_held = self._bytes_of_chunks = 0
        told = (self._run_rows, self._chunks, *self._told_steps, *self._step_columns)
        for handed_over in told:
            handed_over.clear()

    def frames(self) -> Frames:
        """All tables of what was read and not handed over; ``run`` ascends from 0."""
        self.flush_events()
        runs = self._told()
        tool_rows = [(toolset, *row) for toolset, rows in self._tool_rows.items() for row in rows]
        tools = self._frame(tool_rows, list(TOOLS), TOOLS)
        return {
            **runs,
            "tools": self._redacted(tools, "description", "parameters"),
            "problems": self._frame(self.problem_rows, list(PROBLEMS), PROBLEMS),
            "spawns": self._frame(self.spawn_rows, list(SPAWNS), SPAWNS),
            "callers": self._frame(self.caller_rows, list(CALLERS), CALLERS),
            "companions": pl.DataFrame(
                {"source": sorted(self._companions)}, schema={"source": pl.String}
            ),
        }

    def _told(self) -> Frames:
        runs = self._frame(self._run_rows, list(TRAJECTORIES), TRAJECTORIES)
        ids = runs["trajectory_id"]
        if self._open_run is not None:
            open_id = self._open_run.columns["trajectory_id"]
            ids = pl.concat([ids, pl.Series("trajectory_id", [open_id], dtype=pl.String)])
        events = pl.concat(self._chunks or [self._frame([], _EVENT_COLUMNS, EVENTS)])
        steps = together(
            "step",
            self._frame_of(self._step_columns, STEP_COLUMNS, STEPS),
            frame_of_columns(self._told_steps, STEP_ROW, STEPS),
        )
        first = self._runs_handed_over
        return {
            "trajectories": self._redacted(runs, "end_reason"),
            "steps": with_ids(self._redacted(steps, "error"), ids, first, STEPS),
            "events": with_ids(events, ids, first, EVENTS),
        }

    def _frame(
        self, rows: Sequence[tuple[Any, ...]], names: Sequence[str], schema: pl.Schema
    ) -> pl.DataFrame:
        columns: list[Sequence[Any]] = [*zip(*rows, strict=True)] if rows else [()] * len(names)
        return self._frame_of(columns, names, schema)

    def _frame_of(
        self, columns: Sequence[Sequence[Any]], names: Sequence[str], schema: pl.Schema
    ) -> pl.DataFrame:
        if not columns[0]:
            return no_rows(tuple(names), tuple(schema[name] for name in names))
        runs = columns[names.index("run")] if "run" in names else None
        return pl.DataFrame(
            [
                self._column(name, values, schema[name], runs)
                for name, values in zip(names, columns, strict=True)
            ]
        )

    def _column(
        self, name: str, values: Sequence[Any], dtype: pl.DataType, runs: Sequence[int] | None
    ) -> pl.Series:
        if are_null(values):
            return nulls(name, len(values), dtype)
        try:
            return fast_column(name, values, dtype)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            pass
        # Lone surrogates, or a value of a wrong type that a format let through: drop it, and say so.
        fitting = [fits(value, dtype) for value in values]
        cleaned = [well_formed(v) if fit else None for v, fit in zip(values, fitting, strict=True)]
        wrong = [index for index, fit in enumerate(fitting) if not fit]
        if runs is not None:
            self._warn_of(
                (runs[i] for i in wrong), f"{{}} values of a wrong type in {name} dropped"
            )
        return pl.Series(name, cleaned, dtype=dtype, strict=True)

    def _redacted(self, frame: pl.DataFrame, *names: str) -> pl.DataFrame:
        for name in names:
            clean, rows = redact_column(frame[name])
            if len(rows):
                frame = frame.with_columns(clean.alias(name))
                if "run" in frame.columns:
                    runs = frame["run"].gather(rows).to_list()
                    self._warn_of(runs, f"credentials redacted in {{}} values of {name}")
        return frame

    def _warn_of(self, runs: Iterable[int], reason: str) -> None:
        """A warning for each source of the runs in which it occurred, and how often it did."""
        for (source, format_name), count in Counter(map(self._source_of, runs)).items():
            key = (source, format_name, reason)
            index, before = self._warned.get(key, (len(self.problem_rows), 0))
            self._warned[key] = (index, before + count)
            of_many = reason.replace("{}", "\0")
            counted = Counted(reason.replace("{}", "1"), of_many, before + count)
            row = (source, None, "warning", str(counted), format_name, None)
            self.problem_rows[index : index + 1] = [row]
            self.counted[index] = counted

    def _source_of(self, run: int) -> tuple[str, str]:
        place = run - self._runs_handed_over
        if place < len(self._run_rows):
            return self._run_rows[place][_SOURCE], self._run_rows[place][_FORMAT]
        return self._reading.name, self.format


def short_id(*parts: str) -> str:
    """12 letters and digits, 60 bits: short enough to live inside a column's view."""
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8)
    number = int.from_bytes(digest.digest(), "big") >> 4
    return "".join([_PAIRS[number >> place & 1023] for place in (50, 40, 30, 20, 10, 0)])


def files_of(source: Source) -> list[Source]:
    """All files that were read for a log: its parts, and those found beside them."""
    files = list(source.parts)
    for file in files:  # grows while it is walked through: companions have companions
        files.extend(companion for companion in file.companions if companion not in files)
    return files


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]} ..."


def _canonical(parameters: Any) -> str:
    """The same text for the same JSON value, however its keys are ordered and its text is spaced."""
    if isinstance(parameters, str):
        try:
            parameters = decode(parameters.encode("utf-8", "surrogatepass"))
        except UnreadableRecord:
            return parameters
    return msgspec.json.encode(well_formed(parameters), order="deterministic").decode()
