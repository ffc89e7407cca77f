"""Analyses of a scanned store: the same numbers as in memory, in plans that stream or in bounded parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import loaders
import loaders.stores
import loaders.trajectories
from analysis import (
    ablation,
    axes,
    behaviour,
    breakdown,
    outcomes,
    perturbation_rules,
    perturbation_statistics,
    perturbations,
    prefixes,
    remembered,
    signals,
    survival,
    thinking,
    turns,
)
from analysis.hazard import person_period
from analysis.results import Result
from loaders import Trajectories
from loaders.schema import TABLES

Analysis = Callable[[Trajectories], Any]
PART = 400
"""Events in a part here; there are some thousands."""

STREAMED: dict[str, Analysis] = {
    "success": lambda runs: outcomes.success(runs, by="arm"),
    "pass_k": lambda runs: outcomes.pass_k(runs, by="arm"),
    "by_step": lambda runs: breakdown.by_step(runs, by="arm"),
    "incidence": lambda runs: survival.cumulative_incidence(runs, by="arm"),
    "continuity": lambda runs: thinking.continuity(runs, by="arm"),
}
AFTER_DETECTION: dict[str, Analysis] = {
    "repeats": perturbations.repeats,
    "person_period": lambda runs: person_period(runs, by="arm"),
    "hazard": lambda runs: breakdown.hazard(runs, model="clustered"),
    "hazard within arms": lambda runs: breakdown.hazard(runs, by="arm", model="clustered"),
    "interaction": lambda runs: breakdown.hazard(
        runs, ["exec_error", "retry"], interactions=[("exec_error", "retry")], model="clustered"
    ),
    "triggers": breakdown.triggers,
    "triggers within": lambda runs: breakdown.triggers(runs, within=2, by="arm"),
    "triggers between tasks": lambda runs: breakdown.triggers(runs, match="step"),
    "signals of each run": ablation.per_run_signals,
}
"""Those that stream once it is known which responses are broken."""
IN_PARTS: dict[str, Analysis] = {
    "detect": perturbations.detect,
    "rates": lambda runs: perturbations.rates(runs, by="arm"),
    "calls": behaviour.calls,
    "repeated_calls": signals.repeated_calls,
    "audit": thinking.audit,
    "signals": behaviour.signals,
    "behaviour": lambda runs: behaviour.rates(runs, by="arm"),
    "plan_drift": behaviour.plan_drift,
    "premature_stops": behaviour.premature_stops,
    "recovery": survival.recovery,
    "prefix_features": prefixes.prefix_features,
    "policy": thinking.policy,
    "event_study": lambda runs: breakdown.event_study(runs, "exec_error"),
    "turns": turns.turns,
    "features of turns": turns.features,
}
TIMES = {"repeated_calls": 16, "audit": 32, "policy": 4, "behaviour": 2, "detect": 1}
"""Those that take parts of so many times as many events, as they read few texts or none."""
WHOLE: dict[str, Analysis] = {
    "axes": axes.axes,
    "diff": lambda runs: axes.diff(runs, by="arm", a="all", b="none"),
}
"""Those that put calls or responses of different runs side by side: they take what they need whole."""


@pytest.fixture(scope="module")
def in_memory() -> Trajectories:
    part = "sample_logs/study/{arm}/planner-1/inspect"
    return loaders.load([f"{part}/returned_error.eval", f"{part}/raised_error.eval"])


@pytest.fixture(scope="module")
def folder(in_memory: Trajectories, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_memory.save(tmp_path_factory.mktemp("streaming") / "store")


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders.trajectories, "PART_EVENTS", PART)
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_kept() -> Iterator[None]:
    """What was found in a store is looked for again by each set of runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "_place", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def scanned(folder: Path) -> Trajectories:
    return loaders.scan(folder)


@pytest.fixture
def fresh(folder: Path) -> Trajectories:
    """The store, with nothing found in it yet."""
    return loaders.scan(folder)


def tables(found: Any) -> list[pl.DataFrame]:
    return [found.frame, found.members] if isinstance(found, Result) else [found]


def nodes(query: pl.LazyFrame) -> list[str]:
    """The nodes of the plan by which the streaming engine runs it."""
    graph = query.show_graph(engine="streaming", plan_stage="physical", raw_output=True, show=False)
    return [label.split("\\n")[0] for label in re.findall(r'label\s*=\s*"([^"]*)"', graph or "")]


class Watch:
    """Every query that is collected from a store, and how many rows came of it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.from_store: list[tuple[list[str], int]] = []
        collect = pl.LazyFrame.collect

        def watched(query: pl.LazyFrame, *args: Any, **options: Any) -> Any:
            plan = nodes(query) if "Parquet SCAN" in query.explain() else None
            frame: Any = collect(query, *args, **options)
            if plan is not None:
                self.from_store.append((plan, frame.height))
            return frame

        patch.setattr(pl.LazyFrame, "collect", watched)


def buffering(plan: list[str]) -> list[str]:
    """Nodes that hold all rows at once; a frame that is in memory anyway is none of them."""
    return [
        node
        for node in plan
        if ("in-memory" in node and node != "in-memory-source") or node.startswith("window")
    ]


# ---------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("name", [*STREAMED, *AFTER_DETECTION, *IN_PARTS, *WHOLE])
def test_a_store_gives_the_numbers_of_memory(
    name: str, in_memory: Trajectories, scanned: Trajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In many parts from a store, and in one from memory."""
    analysis = (STREAMED | AFTER_DETECTION | IN_PARTS | WHOLE)[name]
    monkeypatch.setattr(loaders.trajectories, "PART_EVENTS", PART // TIMES.get(name, 4))
    found = tables(analysis(scanned))
    assert sum(len(table) for table in found)
    monkeypatch.setattr(loaders.trajectories, "PART_EVENTS", 1 << 40)
    for here, there in zip(found, tables(analysis(in_memory)), strict=True):
        assert_frame_equal(here, there, rel_tol=1e-9, abs_tol=1e-12)


def test_parts_hold_whole_runs_and_all_of_them(
    in_memory: Trajectories, scanned: Trajectories
) -> None:
    parts = list(scanned.parts())
    assert len(parts) > 5
    assert [name for part in parts for name in part.ids] == in_memory.ids
    for table in ("steps", "events"):
        whole = pl.concat([getattr(part, table) for part in parts]).collect()
        assert whole.equals(getattr(in_memory, table).collect())


def test_tables_whose_runs_lie_apart_are_put_in_order(
    in_memory: Trajectories, tmp_path: Path
) -> None:
    """Grouping a sorted run would silently give each of its pieces a row of its own."""
    frames = {name: getattr(in_memory, name).collect() for name in TABLES}
    rng = np.random.default_rng(0)
    for name in ("steps", "events"):
        frames[name] = frames[name][rng.permutation(frames[name].height)]
    mixed = Trajectories.from_frames(frames)
    counted = mixed.clustered("events").group_by("run").agg(pl.len()).collect()
    assert counted.height == len(in_memory)
    assert len(list(mixed.parts(events=PART))) == 1
    again = loaders.scan(mixed.save(tmp_path / "store"))
    assert again.events.collect().equals(in_memory.events.collect())
    assert again.steps.collect().equals(in_memory.steps.collect())


def test_a_run_that_goes_on_in_another_file_is_read_whole(
    in_memory: Trajectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders.stores, "_PIECE_ROWS", 1_000)
    stored = loaders.scan(in_memory.save(tmp_path / "store"))
    files = sorted((tmp_path / "store" / "tables").glob("events-*.parquet"))
    ends = [pl.read_parquet(file)["run"] for file in files]
    assert len(files) == -(-in_memory.events.collect().height // 1_000) > 2
    split = [one[-1] for one, other in pairwise(ends) if one[-1] == other[0]]
    assert split
    for run in split:
        name = in_memory.ids[run]
        assert stored[name].events.collect().equals(in_memory[name].events.collect())
    assert stored.events.collect().equals(in_memory.events.collect())
    assert [name for part in stored.parts() for name in part.ids] == in_memory.ids
    assert_frame_equal(thinking.audit(stored), thinking.audit(in_memory))
    assert_frame_equal(perturbations.detect(stored), perturbations.detect(in_memory))


# ---------------------------------------------------------------------- in little memory


@pytest.mark.parametrize("name", [*STREAMED, *AFTER_DETECTION])
def test_no_query_over_a_store_holds_all_rows_at_once(
    name: str, scanned: Trajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in AFTER_DETECTION:
        perturbations.detect(scanned)
    watch = Watch(monkeypatch)
    (STREAMED | AFTER_DETECTION)[name](scanned)
    assert watch.from_store
    assert [found for plan, _ in watch.from_store if (found := buffering(plan))] == []


@pytest.mark.parametrize("name", IN_PARTS)
def test_what_needs_windows_takes_a_part_at_a_time(
    name: str, fresh: Trajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = fresh.trajectories.select(pl.col("events").max()).collect().item()
    monkeypatch.setattr(loaders.trajectories, "PART_EVENTS", PART // TIMES.get(name, 1))
    watch = Watch(monkeypatch)
    IN_PARTS[name](fresh)
    buffered = [rows for plan, rows in watch.from_store if buffering(plan)]
    assert all(rows <= PART + longest for rows in buffered)
    assert len(watch.from_store) > 5


def test_the_gate_sees_what_does_not_stream(scanned: Trajectories) -> None:
    middle = pl.col("seq").median()
    assert buffering(nodes(scanned.events.set_sorted("run").group_by("run").agg(middle))) == []
    assert buffering(nodes(scanned.events.group_by("kind").agg(middle)))
    turn = (pl.col("kind") == "user").cum_sum().over("run")
    assert buffering(nodes(scanned.events.select(turn)))


# ---------------------------------------------------------------------- detection


def test_detection_is_done_once_for_a_set_of_runs(
    fresh: Trajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = perturbations.detect(fresh)
    watch = Watch(monkeypatch)
    again = perturbations.detect(fresh)
    assert again.equals(first)
    assert watch.from_store == []
    again.columns = [name.upper() for name in again.columns]
    assert perturbations.detect(fresh).columns == first.columns
    perturbations.detect(fresh.filter(fresh.ids[:3]))
    assert watch.from_store


def response(number: int, text: str, tool: str = "get") -> dict[str, Any]:
    return {
        "run": number // 10, "trajectory_id": f"run-{number // 10}", "seq": number % 10, "step": 0, "tool": tool,
        "text": text, "chars": len(text), "injected": None, "broken": False,
        "family": "function", "arguments": None,
        "json": text.startswith("{") and text.endswith("}"), "json_like": text.startswith("{"),
    }  # fmt: skip


def shaped(rows: list[dict[str, Any]]) -> pl.DataFrame:
    table = pl.DataFrame(rows).with_columns(pl.col("injected", "arguments").cast(pl.String))
    return perturbation_statistics.with_shape(table)


@pytest.mark.parametrize("size", [1, 37, 1_000])
def test_what_is_unlike_a_tool_does_not_hang_on_the_parts(size: int) -> None:
    """Also where a part's usual keys are unlike the tool's: its rows are looked for again."""
    usual, other = '{"id": 1, "state": 2, "n": 3}', '{"a": 1, "b": 2, "c": 3}'
    texts = [other if 200 <= n < 260 else usual for n in range(500)]
    texts[40], texts[333], texts[400] = '{"id": 1, "sta', "x" * 45_000, '{"id": 1, "q": 2}'
    table = shaped([response(n, text) for n, text in enumerate(texts)])
    pieces = [table[start : start + size] for start in range(0, table.height, size)]
    tools = perturbation_statistics.Tools[int](lambda part: pieces[part])
    for part, piece in enumerate(pieces):
        tools.add(part, piece)
    found = tools.unlike()
    place = pl.col("run") * 10 + pl.col("seq")
    by_code = {
        code: sorted(rows.select(place).to_series()) for (code,), rows in found.group_by("code")
    }
    assert by_code == {
        "malformed": [40],
        "schema_drift": [*range(200, 260), 400],
        "oversized": [333],
    }


def test_the_99th_percentile_of_a_tool_is_that_of_its_values() -> None:
    rng = np.random.default_rng(1)
    for count in (100, 101, 150, 251):
        chars = rng.integers(1, 3_000, count)
        p99 = pl.Series(chars).quantile(0.99)
        assert p99 is not None
        for extra in (int(4 * p99) - 1, int(4 * p99) + 1):
            rows = [response(n, "x" * int(size)) for n, size in enumerate([*chars[:-1], extra])]
            table = shaped(rows)
            exact = pl.col("chars").quantile(0.99)
            long = table.filter(pl.col("chars") > 4 * exact, pl.col("chars") > 4_000).height
            tools = perturbation_statistics.Tools[pl.DataFrame](lambda same: same)
            tools.add(table, table)
            assert tools.unlike().filter(code="oversized").height == long


def test_rules_are_called_for_several_parts_at_once(
    fresh: Trajectories, in_memory: Trajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where their expressions are made ready is no matter of what they find."""
    counted: list[int] = []
    of_close = perturbation_rules.of_close

    def watched(table: pl.DataFrame) -> pl.DataFrame:
        counted.append(table.height)
        return of_close(table)

    monkeypatch.setattr(perturbation_rules, "of_close", watched)
    found = perturbations.detect(fresh)
    assert len(counted) == 1 < len(list(fresh.parts()))
    monkeypatch.setattr(perturbations, "_RESPONSES", 100)
    assert perturbations.detect(loaders.scan(in_store(fresh))).equals(found)
    assert len(counted) > 3
    monkeypatch.setattr(perturbations, "_RESPONSES", 1 << 17)
    monkeypatch.setattr(perturbations, "_BYTES", 1)
    assert perturbations.detect(loaders.scan(in_store(fresh))).equals(found)
    assert found.equals(perturbations.detect(in_memory))


def in_store(runs: Trajectories) -> Path:
    assert runs.stored_at is not None
    return runs.stored_at


# ---------------------------------------------------------------------- one run


def test_one_run_of_a_store_reads_nothing_of_the_others(
    in_memory: Trajectories, scanned: Trajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = in_memory.ids[70]
    one = scanned[name]
    watch = Watch(monkeypatch)
    events = one.events.collect()
    assert events.equals(in_memory.events.filter(pl.col("trajectory_id") == name).collect())
    assert [plan for plan, _ in watch.from_store if buffering(plan)] == []
    assert one.ids == [name]
