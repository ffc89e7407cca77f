"""What must hold for every format, as plain functions, each named for what it demands.

A rule takes a ``Case`` and raises ``AssertionError`` where it is broken. ``RULES`` run on every folder
of logs; ``RULES_OF_A_FILE`` cut and distort one small file of each format; ``RULES_OF_A_TABLE`` also
on whatever the tests of formats load. What a format can't hold to its module declares, with the
reason, in ``EXCEPTIONS``; an exception that is no longer needed fails.
"""

from __future__ import annotations

import functools
import gzip
import json
import random
import re
import tempfile
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from conftest import REAL_LOGS, ROOT
from generator import STUDY_PARTS

import loaders
from loaders import LoadError, Trajectories
from loaders.bodies import is_event_stream
from loaders.builder import Builder
from loaders.discovery import discover
from loaders.errors import UnreadableRecord
from loaders.raw import raw_record
from loaders.redact import redact_column
from loaders.registry import formats
from loaders.schema import EVENTS, PROBLEMS, STEPS, TABLES, TOOLS, TRAJECTORIES
from loaders.sources import Source
from loaders.yamltext import is_yaml_name

__all__ = ["Case", "File", "replace"]


def exceptions() -> dict[tuple[str, str], str]:
    """(rule, format) to the reason why it can't hold there, as the module of the format declares."""
    return {
        (rule, name): reason
        for name, known in formats().items()
        for rule, reason in known.exceptions.items()
    }


FOLDERS_OF_SEVERAL_FORMATS = {
    "codex": {"codex", "codex_exec"},
    "other_cli": {
        "antigravity",
        "copilot",
        "cursor",
        "droid",
        "grok",
        "hermes",
        "kimi",
        "pi",
        "qwen_code",
    },
    "openhands_llm_completions": {"openhands_completions"},
}
"""Folders of real logs whose files are in formats of other names than the folder's."""

UNREAD = {
    "otlp": "both traces hold no model call",
}
"""Folders of real logs in which there is nothing to load, and why."""

_REFERENCE = re.compile('"(?:attachment|tc)://')
FORMAT_CODE = re.compile(r"\((\w+\.py):\d+\); what stands before it is kept")


@dataclass(frozen=True)
class Case:
    """A folder of logs, loaded; ``folder`` is its name."""

    folder: str
    path: Path
    runs: Trajectories
    trajectories: pl.DataFrame
    steps: pl.DataFrame
    events: pl.DataFrame
    tools: pl.DataFrame
    problems: pl.DataFrame

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        return {name: getattr(self, name) for name in TABLES}


@functools.cache
def case(folder: str) -> Case:
    """The folder of that name, loaded once for all rules."""
    path = folders()[folder]
    return case_of(folder, path, loaders.load(path, progress=False))


def case_of(folder: str, path: Path, runs: Trajectories) -> Case:
    """Runs with their tables collected."""
    return Case(folder, path, runs, **{name: getattr(runs, name).collect() for name in TABLES})


def folders() -> dict[str, Path]:
    """Folders of logs by name: real ones where they are, and our own."""
    found = {
        **STUDY_PARTS,
        "inspect_logs": ROOT / "tests" / "inspect_logs",
    }
    found |= {
        f"sample of {path.name}": path
        for path in sorted((ROOT / "sample_logs" / "frameworks").iterdir())
    }
    if REAL_LOGS.is_dir():
        found |= {path.name: path for path in sorted(REAL_LOGS.iterdir()) if path.is_dir()}
    return {name: path for name, path in found.items() if path.exists()}


# ---------------------------------------------------------------------- the tables


def the_schema_is_exact(case: Case) -> None:
    schemas = (TRAJECTORIES, STEPS, EVENTS, TOOLS, PROBLEMS)
    for name, schema in zip(TABLES, schemas, strict=True):
        assert case.tables[name].schema == schema, name
    assert case.trajectories["outcome"].null_count() == 0


def runs_are_numbered_through_and_ids_differ(case: Case) -> None:
    runs = case.trajectories
    assert runs["run"].to_list() == list(range(runs.height))
    ids = runs["trajectory_id"]
    assert ids.n_unique() == runs.height
    for table in (case.steps, case.events):
        assert table["run"].is_sorted()
        assert table.is_empty() or 0 <= table["run"][0] <= table["run"][-1] < runs.height
        assert ids.gather(table["run"]).equals(table["trajectory_id"])
    assert case.tools.is_unique().all()


def seq_has_no_gaps(case: Case) -> None:
    assert are_numbered(case.events, "seq")
    assert case.trajectories["events"].to_list() == rows_of_runs(case, case.events)


def steps_never_go_back(case: Case) -> None:
    assert are_numbered(case.steps, "step")
    back = case.events.filter(pl.col("step").fill_null(-1).diff().over("run") < 0)
    assert back.is_empty(), back.head(3)
    assert case.trajectories["steps"].to_list() == rows_of_runs(case, case.steps)


def are_numbered(table: pl.DataFrame, name: str) -> bool:
    """Whether the rows of each run are numbered through from 0.

    Most cases are tiny, and there are thousands of them: Python is done with one, twice over, before
    Polars has planned a grouping.
    """
    next_of: Counter[int] = Counter()
    for run, number in zip(table["run"].to_list(), table[name].to_list(), strict=True):
        if number != next_of[run]:
            return False
        next_of[run] += 1
    return True


def rows_of_runs(case: Case, table: pl.DataFrame) -> list[int]:
    """How many rows of a table each run has."""
    counted = Counter(table["run"].to_list())
    return [counted[run] for run in case.trajectories["run"].to_list()]


def a_step_begins_with_its_first_event(case: Case) -> None:
    first = case.events.group_by("run", "step").agg(first=pl.col("seq").min())
    steps = case.steps.join(first, on=["run", "step"], how="left")
    wrong = steps.filter(pl.col("first").is_not_null() & (pl.col("seq") != pl.col("first")))
    assert wrong.is_empty(), wrong.select("run", "step", "seq", "first").head(3)


def results_answer_earlier_calls_or_are_counted_as_orphans(case: Case) -> None:
    names = ("run", "seq", "kind", "call_seq")
    rows = [*zip(*(case.events[name].to_list() for name in names), strict=True)]
    calls = {(run, seq) for run, seq, kind, _ in rows if kind == "tool_call"}
    orphans: Counter[int] = Counter()
    answered: set[tuple[int, int]] = set()
    for run, seq, kind, call_seq in rows:
        if kind != "tool_result":
            assert call_seq is None, (run, seq, kind)
        elif call_seq is None:
            orphans[run] += 1
        else:
            assert call_seq < seq, (run, seq, call_seq)
            assert (run, call_seq) in calls, (run, seq, call_seq)
            answered.add((run, call_seq))
    unanswered = Counter(run for run, _ in calls - answered)
    runs = case.trajectories
    for name, counted in (("orphan_results", orphans), ("unanswered_calls", unanswered)):
        found = [counted[run] for run in runs["run"].to_list()]
        assert runs[name].to_list() == found, (name, runs[name].to_list()[:20], found[:20])


def columns_of_calls_stand_on_calls_only(case: Case) -> None:
    other = case.events.filter(~pl.col("kind").is_in(["tool_call", "tool_result"]))
    for name in ("tool", "arguments"):
        assert other[name].null_count() == other.height, name
    results = case.events.filter(pl.col("kind") == "tool_result")
    assert results["arguments"].null_count() == results.height
    calls = case.events.filter(pl.col("kind") == "tool_call")
    assert calls["is_error"].null_count() == calls.height


def thinking_has_a_state_and_nothing_else_has(case: Case) -> None:
    is_thinking = pl.col("kind") == "thinking"
    wrong = case.events.filter(is_thinking != pl.col("thinking_state").is_not_null())
    assert wrong.is_empty(), wrong.head(3)
    shown = case.events.filter(pl.col("thinking_state").is_in(["hidden", "redacted"]))
    assert shown["text"].fill_null("").eq("").all()


def steps_say_what_their_thinking_events_say(case: Case) -> None:
    thinking = case.events.filter(pl.col("kind") == "thinking", pl.col("step").is_not_null())
    found = thinking.group_by("run", "step").agg(
        states=pl.col("thinking_state").cast(pl.String).unique(),
        chars=pl.col("text").str.len_chars().sum(),
    )
    steps = case.steps.join(found, on=["run", "step"], how="left")
    has = pl.col("states").is_not_null()
    state = pl.col("thinking").cast(pl.String)
    wrong = steps.filter(
        (has & ~pl.col("states").list.contains(state).fill_null(value=False))
        | (
            ~has
            & pl.col("thinking").is_in(["text", "summary", "hidden", "redacted", "tagged_in_text"])
        )
        | (has & (pl.col("thinking_chars") != pl.col("chars")))
    )
    assert wrong.is_empty(), wrong.select("run", "step", "thinking", "states", "chars").head(3)


def thinking_available_counts_earlier_blocks(case: Case) -> None:
    thinking = case.events.filter(pl.col("kind") == "thinking")
    places: defaultdict[int, list[int]] = defaultdict(list)
    for run, seq in sorted(thinking.select("run", "seq").iter_rows()):
        places[run].append(seq)
    told = case.steps.select("run", "step", "seq", "thinking_available").iter_rows()
    for run, step, seq, available in told:
        earlier = bisect_left(places[run], seq)
        assert available in (None, earlier), (run, step, available, earlier)


def contexts_lie_before_their_step(case: Case) -> None:
    for name in ("context", "thinking_context"):
        if case.steps[name].null_count() == case.steps.height:
            continue
        ranges = (
            case.steps.select("run", "step", "seq", name)
            .filter(pl.col(name).list.len() > 0)
            .explode(name)
            .unnest(name)
        )
        before = pl.col("stop").shift(1).over("run", "step")
        wrong = ranges.filter(
            (pl.col("start") < 0)
            | (pl.col("start") >= pl.col("stop"))
            | (pl.col("stop") > pl.col("seq"))
            | (pl.col("start") <= before)
        )
        assert wrong.is_empty(), (name, wrong.head(3))


def what_was_sent_has_evidence(case: Case) -> None:
    known = pl.col("thinking_sent").is_not_null() | pl.col("thinking_context").is_not_null()
    assert case.steps.filter(known, pl.col("evidence") == "unknown").is_empty()
    assert case.steps["evidence"].null_count() == 0
    more = case.steps.filter(pl.col("thinking_sent") > pl.col("thinking_available"))
    assert more.is_empty(), more.head(3)


def tokens_of_a_run_are_sums_over_its_steps(case: Case) -> None:
    names = ["input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"]
    sums = case.steps.group_by("run").agg(
        *(pl.when(pl.col(n).count() > 0).then(pl.col(n).sum()).alias(f"{n}_sum") for n in names)
    )
    runs = case.trajectories.join(sums, on="run", how="left")
    wrong = runs.filter(
        pl.any_horizontal(
            (pl.col(name) < 0) | (pl.col(name) != pl.col(f"{name}_sum")) for name in names
        )
    )
    assert wrong.is_empty(), wrong.select("run", "source", "^.*_tokens.*$").head(3)
    part = case.steps.filter(
        (pl.col("cached_tokens") > pl.col("input_tokens"))
        | (pl.col("reasoning_tokens") > pl.col("output_tokens"))
    )
    assert part.is_empty(), part.select("run", "step", *names).head(3)


def outcomes_agree_with_success(case: Case) -> None:
    wrong = case.trajectories.filter(
        ((pl.col("outcome") == "success") != pl.col("success")) & pl.col("success")
        | ((pl.col("outcome") == "success") & ~pl.col("success"))
    )
    assert wrong.is_empty(), wrong.select("source", "outcome", "success").head(3)


def times_run_forward(case: Case) -> None:
    """Of real logs: a test may write one whose clock runs backwards, and then the tables say so."""
    for table in (case.trajectories, case.steps):
        wrong = table.filter(pl.col("ended_at") < pl.col("started_at"))
        assert wrong.is_empty(), wrong.select("run", "started_at", "ended_at").head(3)
    assert case.events.filter(pl.col("duration_s") < 0).is_empty()


def toolsets_are_in_the_table_of_tools(case: Case) -> None:
    offered = pl.concat([case.steps["toolset"], case.trajectories["toolset"]]).drop_nulls().unique()
    nothing_on_offer = Builder().toolset([])
    assert set(offered) - {nothing_on_offer} <= set(case.tools["toolset"])


def subagents_name_a_run_and_an_event(case: Case) -> None:
    if case.trajectories["parent_id"].null_count() == case.trajectories.height:
        return
    children = case.trajectories.filter(pl.col("parent_id").is_not_null())
    parents = case.trajectories.select(parent_id="trajectory_id", n="events")
    found = children.join(parents, on="parent_id", how="left")
    assert found["n"].null_count() == 0, found.select("source", "parent_id").head(3)
    assert found.filter(pl.col("parent_seq") >= pl.col("n")).is_empty()
    assert found.filter(pl.col("parent_id") == pl.col("trajectory_id")).is_empty()


def every_row_says_where_it_stands(case: Case) -> None:
    for table in (case.trajectories, case.steps, case.events):
        is_missing = table["source_pos"].is_null()
        assert not is_missing.any(), table.filter(is_missing).head(3)


_SAYS = ("text", "arguments", "signature", "media")


def positions_lead_to_the_raw_record(case: Case) -> None:
    """An event that says nothing may stand at a null; a streamed text begins where it stands."""
    size = max((_size(source) for source in case.trajectories["source"].unique()), default=0)
    count = max(5, min(40, 10 * BYTES // max(1, size)))
    for row in _sample(case.events, count).iter_rows(named=True):
        raw = case.runs.raw(row["trajectory_id"], row["seq"])
        assert raw is not None or all(row[name] is None for name in _SAYS), row
        written = json.dumps(raw, ensure_ascii=False)
        words = (row["text"] or "").split()
        if not words or _REFERENCE.search(written) or row["text"][0] in "[{":
            continue  # the text stands elsewhere, or is no text there but a value
        if isinstance(raw, str) and is_event_stream(raw):
            continue  # a streamed text stands there in pieces
        assert _stands_in(words[0], written), (row["source_pos"], words[0])
        is_first_piece = isinstance(raw, dict) and any(
            isinstance(piece, str) and piece and row["text"].startswith(piece)
            for piece in raw.values()
        )
        assert is_first_piece or _stands_in(words[-1], written), (row["source_pos"], words[-1])


def positions_of_runs_and_steps_lead_somewhere(case: Case) -> None:
    sources = case.trajectories.select("run", "source")
    steps = case.steps.filter(pl.col("step") == pl.col("step").max().over("run"))
    for table in (case.trajectories.select("run", "source_pos"), steps.select("run", "source_pos")):
        some = table.sample(min(12, table.height), seed=1).join(sources, on="run")
        for _, position, source in some.iter_rows():
            raw_record(source, position)


def _size(source: str) -> int:
    return Path(source).stat().st_size if Path(source).is_file() else 0


def _sample(events: pl.DataFrame, count: int) -> pl.DataFrame:
    """Some events, of each kind and over all formats, the same ones each time."""
    kinds = events.with_columns(pl.col("seq").shuffle(seed=1).over("kind").alias("mixed"))
    return kinds.sort("mixed", "run", "seq").group_by("kind", maintain_order=True).head(count // 5)


def _stands_in(word: str, written: str) -> bool:
    """Whether a word is in JSON text, escaped not at all, once or twice."""
    for _ in range(3):
        if word in written:
            return True
        word = json.dumps(word, ensure_ascii=False)[1:-1]
    return False


def credentials_are_gone(case: Case) -> None:
    for name, table in case.tables.items():
        for column in table.select(pl.col(pl.String)).iter_columns():
            if column.name != "signature":
                assert len(redact_column(column)[1]) == 0, (name, column.name)


def the_code_of_the_format_does_not_fail(case: Case) -> None:
    failed = case.problems.filter(pl.col("reason").str.contains(FORMAT_CODE.pattern))
    assert failed.is_empty(), failed["reason"].head(3).to_list()


# ---------------------------------------------------------------------- the folder


def no_other_format_says_yes(case: Case) -> None:
    expected = FOLDERS_OF_SEVERAL_FORMATS.get(case.folder)
    if expected is None and case.folder in formats():
        expected = {case.folder}
    for found in discover(case.path):
        source = found.source
        said_yes = [
            each.name
            for each in formats().values()
            if _says(each.sniff, source) and not (each.companion and _says(each.companion, source))
        ]
        assert len(said_yes) <= 1, (source.name, said_yes)
        assert expected is None or set(said_yes) <= expected, (source.name, said_yes)
        source.release()


def _says(question: Callable[[Any], bool], source: Source) -> bool:
    try:
        return bool(question(source.head))
    except (UnreadableRecord, OSError):
        return False


def ids_stay_when_the_folder_moves(case: Case) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        moved = Path(elsewhere, "moved")
        moved.symlink_to(case.path)
        runs = loaders.load(moved, progress=False)
    assert sorted(runs.ids) == sorted(case.runs.ids)
    assert runs.events.collect().drop("run").height == case.events.height


def what_is_saved_comes_back(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        again = loaders.scan(case.runs.save(Path(folder, "store")))
        for name, table in case.tables.items():
            other = getattr(again, name).collect()
            assert other.schema == table.schema, name
            assert other.equals(table), name


# ---------------------------------------------------------------------- one small file of each format


@dataclass(frozen=True)
class File:
    """A small file of a format: its runs as they are when it is whole, and the folder it lies in."""

    format: str
    path: Path
    events: pl.DataFrame

    def load(self, content: bytes) -> Trajectories | None:
        """What is read where the file holds something else; None where nothing is."""
        with tempfile.TemporaryDirectory() as elsewhere:
            folder = Path(elsewhere, *self.path.parts[-4:-1])
            folder.mkdir(parents=True)
            changed = folder / self.path.name
            changed.write_bytes(content)
            try:
                return loaders.load(changed, format=self.format, progress=False)
            except LoadError as error:
                reasons = str(error)
        assert not FORMAT_CODE.search(reasons), reasons
        return None


@functools.cache
def small_file(folder: str, format_name: str) -> File | None:
    """The smallest file of a format in a folder that is a log by itself; None if there is none."""
    runs = case(folder).trajectories.filter(pl.col("format") == format_name, pl.col("events") > 3)
    paths = {Path(source) for source in runs["source"]}
    for path in sorted((p for p in paths if p.is_file()), key=lambda p: (p.stat().st_size, p))[:5]:
        told = runs.filter(pl.col("source") == path.as_posix())["events"].sum()
        alone = File(format_name, path, pl.DataFrame()).load(path.read_bytes())
        if alone is not None and (events := alone.events.collect()).height >= told:
            return File(format_name, path, events)
    return None


CUTS = 50
SEEDS = 16
BYTES = 1_000_000
"""So much is read over and over again of one file; of a larger one fewer variants are tried.

Of its positions too, for each of which the file is read once more.
"""


def _some(file: File, count: int) -> range:
    """The numbers from 1 up to ``count``, or some of them where the file is large."""
    tries = min(count, max(5, BYTES // file.path.stat().st_size))
    return range(1, count + 1, -(-count // tries))


_TOLD = ("kind", "text", "thinking_state")


def a_file_cut_short_gives_what_stands_before(file: File) -> None:
    """Of a file cut at fifty places all that stands before the cut is read, and the cut is told."""
    whole = file.path.read_bytes()
    counts: list[int] = []
    known = set(file.events.select(_TOLD).rows())
    for number in _some(file, CUTS - 1):
        cut = whole[: len(whole) * number // CUTS]
        runs = file.load(cut)
        if runs is None:
            counts.append(0)
            continue
        events, reasons = runs.events.collect(), runs.problems.collect()["reason"].to_list()
        failed = [reason for reason in reasons if FORMAT_CODE.search(reason)]
        assert not failed, f"{number}/{CUTS}: {failed[0]}"
        told = [row for row in events.select(_TOLD).rows() if row in known]
        assert len(told) >= events.height - 2, (
            f"{number}/{CUTS}: events that the whole file has not"
        )
        counts.append(events.height)
        ends_a_record = whole[len(cut) : len(cut) + 1] == b"\n" or cut.endswith(b"\n")
        assert ends_a_record or reasons, f"{number}/{CUTS}: no problem"
    assert counts[-1] > 0, counts
    assert counts[-1] >= file.events.height * 0.5, (counts, file.events.height)
    assert sum(counts) >= file.events.height * len(counts) * 0.2, (counts, file.events.height)


def values_of_other_types_make_no_trouble(file: File) -> None:
    """Whatever stands in place of a value, the code of the format goes on."""
    for seed in _some(file, SEEDS):
        content = _distorted(file.path, random.Random(seed))
        if content is None:
            return
        runs = file.load(content)
        if runs is not None:
            reasons = runs.problems.collect()["reason"].to_list()
            failed = [reason for reason in reasons if FORMAT_CODE.search(reason)]
            assert not failed, failed[0]
            assert runs.events.collect_schema() == EVENTS


def _distorted(path: Path, chance: random.Random) -> bytes | None:
    """The file with hostile values in place of some; None if it is no JSON."""
    source = Source(path)
    if source.head.is_zip or is_yaml_name(source.name):
        return None
    try:
        if source.is_json_lines:
            return b"".join(
                _dumped(_with_hostile_values(r, chance)) for _, r in source.json_lines()
            )
        return _dumped(_with_hostile_values(source.json(), chance))
    except UnreadableRecord:
        return None


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


HOSTILE = (
    None,
    5,
    -1.5,
    "x",
    "",
    [],
    {},
    True,
    [[]],
    {"a": 1},
    [None],
    ["x"],
    2**70,
    "\ud800",
    "{",
)


def _with_hostile_values(value: Any, chance: random.Random) -> Any:
    places = list(_places(value))
    for parent, key in chance.sample(places, min(len(places), chance.choice((1, 3, 12, 40)))):
        parent[key] = chance.choice(HOSTILE)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items: Any = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def the_same_file_reads_alike_when_packed(file: File) -> None:
    content = file.path.read_bytes()
    if content[:2] in (b"PK", b"\x1f\x8b", b"\x28\xb5"):  # zip, gzip, zstd: packed already
        return
    packed, plain = file.load(gzip.compress(content)), file.load(content)
    assert packed is not None
    assert plain is not None
    assert packed.ids == plain.ids
    assert packed.events.collect().equals(plain.events.collect())


def no_value_is_lost(case: Case) -> None:
    """Every value of the raw logs is in the tables, or its format says why it is left out."""
    found = loaders.coverage(case.path, progress=False)
    lost = found.lost.select("format", "path", "within", "lost", "example").rows()
    assert not lost, f"{len(lost)} paths: {lost[:12]}"


RULES_OF_A_TABLE: tuple[Callable[[Case], None], ...] = (
    the_schema_is_exact,
    runs_are_numbered_through_and_ids_differ,
    seq_has_no_gaps,
    steps_never_go_back,
    a_step_begins_with_its_first_event,
    results_answer_earlier_calls_or_are_counted_as_orphans,
    columns_of_calls_stand_on_calls_only,
    thinking_has_a_state_and_nothing_else_has,
    steps_say_what_their_thinking_events_say,
    thinking_available_counts_earlier_blocks,
    contexts_lie_before_their_step,
    what_was_sent_has_evidence,
    tokens_of_a_run_are_sums_over_its_steps,
    outcomes_agree_with_success,
    toolsets_are_in_the_table_of_tools,
    subagents_name_a_run_and_an_event,
    every_row_says_where_it_stands,
    positions_lead_to_the_raw_record,
    positions_of_runs_and_steps_lead_somewhere,
    credentials_are_gone,
)
RULES: tuple[Callable[[Case], None], ...] = (
    *RULES_OF_A_TABLE,
    times_run_forward,
    the_code_of_the_format_does_not_fail,
    no_other_format_says_yes,
    ids_stay_when_the_folder_moves,
    what_is_saved_comes_back,
    no_value_is_lost,
)
RULES_OF_A_FILE: tuple[Callable[[File], None], ...] = (
    a_file_cut_short_gives_what_stands_before,
    values_of_other_types_make_no_trouble,
    the_same_file_reads_alike_when_packed,
)


def broken_rules(folder: str) -> Iterator[tuple[str, str, str]]:
    """(rule, format or folder, message) for each rule that does not hold in a folder."""
    found = case(folder)
    for rule in RULES:
        if message := _complaint(rule, found):
            yield rule.__name__, folder, message
    for name in found.trajectories["format"].unique(maintain_order=True):
        file = small_file(folder, name)
        if file is None:
            continue
        for rule_of_a_file in RULES_OF_A_FILE:
            if message := _complaint(rule_of_a_file, file):
                yield rule_of_a_file.__name__, name, message


def _complaint(rule: Callable[[Any], None], given: Case | File) -> str | None:
    try:
        rule(given)
    except AssertionError as error:
        return str(error) or "does not hold"
    except Exception as error:  # noqa: BLE001 - a rule that can't even be checked is broken too
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    for name in folders():
        for broken, where, message in broken_rules(name) if name not in UNREAD else ():
            known = " (declared)" if (broken, where) in exceptions() else ""
            print(f"{where}: {broken}{known}\n    {message[:900]}\n")
