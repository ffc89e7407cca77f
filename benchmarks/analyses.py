"""Analyses of a store of simulated runs, each beside the same query in DuckDB.

``uv run --with duckdb python benchmarks/analyses.py [EVENTS] [--write] [--once] [--only NAME]``: ten million
events by default; three rounds, or one. The store is made once, in the folder that ``DERAIL_BENCHMARK_DATA`` names (or a temporary one).
Each case runs in a process of its own with two threads, the two sides in turn; time is of the process
(all threads), memory the peak above what stands before the query (``VmHWM``, reset). What both sides
found is compared by a digest before a ratio is told.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from environment import as_users_have_it

ROUNDS = 1 if "--once" in sys.argv else 3

# ---------------------------------------------------------------------- what both sides compute


def _frame(found: pl.DataFrame) -> list[Any]:
    """A digest by which two results are compared: rows, and sums of all numbers."""
    numbers = found.select(pl.selectors.numeric() | pl.selectors.boolean()).cast(pl.Float64)
    sums = numbers.sum().row(0) if found.height else ()
    return [found.height, *(f"{value or 0:.6g}" for value in sums)]


def counts(runs: Any) -> pl.DataFrame:
    """Tool calls and thinking blocks of each run."""
    kind = pl.col("kind")
    return (
        runs.clustered("events")
        .group_by("run")
        .agg((kind == "tool_call").sum().cast(pl.Int64), thinking=(kind == "thinking").sum().cast(pl.Int64))
        .collect(engine="streaming")
    )  # fmt: skip


def transitions(runs: Any) -> pl.DataFrame:
    """How often each kind of event follows which."""
    same = pl.col("run") == pl.col("run").shift(1)
    return (
        runs.clustered("events")
        .select("run", "kind", before=pl.col("kind").shift(1), same=same)
        .filter("same")
        .group_by("before", "kind")
        .agg(n=pl.len().cast(pl.Int64))
        .select("n")
        .collect(engine="streaming")
    )


def gaps(runs: Any) -> pl.DataFrame:
    """Median and 90th percentile of the time between a run's events."""
    gap = pl.col("started_at").diff().dt.total_microseconds()
    return (
        runs.clustered("events")
        .group_by("run")
        .agg(middle=gap.median(), late=gap.quantile(0.9, "linear"))
        .collect(engine="streaming")
    )


def repeated(runs: Any) -> pl.DataFrame:
    """Calls that repeat the call before them (``signals.repeated_calls``)."""
    from analysis.signals import repeated_calls

    return repeated_calls(runs).select("run", "seq", "repeats")


def kept(runs: Any) -> pl.DataFrame:
    """Calls of each run whose request had, or lacked, earlier thinking (``thinking.audit``)."""
    from analysis.thinking import audit

    told = pl.col("evidence").list.len().cast(pl.Int64)
    return audit(runs).with_columns(told).drop("trajectory_id", "verdict")


def risk(runs: Any) -> pl.DataFrame:
    """Runs at risk at each call, and those that end there in failure, by task and arm."""
    outcome = runs.trajectories.select("run", "task_id", "arm", "success", "steps").collect()
    cells = outcome.select("task_id", "arm").unique().with_row_index("cell")
    outcome = outcome.join(cells, on=["task_id", "arm"], nulls_equal=True).drop("task_id", "arm")
    is_end = (pl.col("step") == pl.col("steps") - 1) & ~pl.col("success")
    return (
        runs.steps.select("run", "step")
        .join(outcome.lazy(), on="run")
        .group_by("cell", "step")
        .agg(n=pl.len().cast(pl.Int64), events=is_end.sum().cast(pl.Int64))
        .collect(engine="streaming")
        .join(cells, on="cell")
        .drop("cell")
    )


_SAYS = "(traceback|error:|timed out|too many requests|unavailable|truncated|not found|denied)"


def says(runs: Any) -> pl.DataFrame:
    """One rule over the first 400 characters of every tool response."""
    # Small letters first: a search that minds them jumps to where one of the words may begin, which one that
    # does not mind them can't; it looks at each character and takes three times as long.
    said = pl.col("text").str.head(400).str.to_lowercase().str.extract(_SAYS)
    return (
        runs.events.filter(pl.col("kind") == "tool_result")
        .group_by(said=said)
        .agg(n=pl.len().cast(pl.Int64))
        .select("n")
        .collect(engine="streaming")
    )


_EVENTS = "read_parquet({events})"
SQL: dict[str, str] = {
    "counts": "select run, sum((kind = 'tool_call')::int) kind, sum((kind = 'thinking')::int) thinking "
    "from {events} group by run",
    "transitions": "select count(*) n from (select kind, lag(kind) over (partition by run order by seq) as before "
    "from {events}) where before is not null group by before, kind",
    "gaps": "select run, median(g) middle, quantile_cont(g, 0.9) late from (select run, epoch_us(started_at) - "
    "lag(epoch_us(started_at)) over (partition by run order by seq) as g from {events}) group by run",
    "repeated": "with c as (select run, seq, tool, arguments, kind, sum((kind = 'user')::int) over (partition by run "
    "order by seq) as turn from {events} where kind in ('tool_call', 'user')), d as (select *, lag(tool) over w as t, "
    "lag(arguments) over w as a, lag(turn) over w as u, lag(seq) over w as repeats from c where kind = 'tool_call' "
    "window w as (partition by run order by seq)) select run, seq, repeats from d where t is not distinct from tool "
    "and a = arguments and u = turn",
    "kept": "with k as (select *, thinking_available > 0 due, thinking_available > 0 and thinking_sent is not null known, "
    "thinking_available > 0 and thinking_sent < thinking_available cut from {steps}), "
    "s as (select run, count(*) calls, sum(due::int) calls_due, sum((known and not cut)::int) calls_kept, "
    "sum(cut::int) calls_dropped, sum((due and not known)::int) calls_unknown, "
    "sum(thinking_available) filter (known) blocks_due, sum(thinking_sent) filter (known) blocks_sent, "
    "min(step) filter (cut) first_dropped_step, bool_or(thinking != 'not_logged') logged, "
    "count(distinct evidence) filter (known) evidence from k group by run), "
    "e as (select run, count(*) emitted, sum((thinking_state in ('hidden', 'redacted'))::int) hidden from {events} "
    "where kind = 'thinking' group by run) select calls, calls_due, calls_kept, calls_dropped, calls_unknown, blocks_due, "
    "blocks_sent, first_dropped_step, logged, evidence, emitted, hidden from s left join e using (run)",
    "risk": "select task_id, arm, step, count(*) n, sum((step = steps - 1 and not success)::int) events "
    "from (select run, step from {steps}) join (select run, task_id, arm, success, steps from {trajectories}) "
    "using (run) group by task_id, arm, step",
    "says": f"select count(*) n from (select regexp_extract(lower(left(text, 400)), '{_SAYS}') said "
    "from {events} where kind = 'tool_result') group by said",
}
CASES: dict[str, Callable[[Any], pl.DataFrame]] = {
    "counts": counts, "transitions": transitions, "gaps": gaps, "repeated": repeated, "kept": kept, "risk": risk,
    "says": says,
}  # fmt: skip
OF_TEXTS = ("says",)
"""Also told beside a bare scan of the texts that they read."""


def _unkept(runs: Any, analysis: Callable[[Any], Any]) -> Any:
    """Without what an earlier process found and kept beside the store."""
    shutil.rmtree(runs.stored_at / "found", ignore_errors=True)
    return analysis(runs)


def _analyses() -> dict[str, Callable[[Any], Any]]:
    """Whole analyses, which no single query in SQL does."""
    from analysis import behaviour, breakdown, outcomes, perturbations, survival, thinking

    return {
        "outcomes.success": lambda runs: outcomes.success(runs, by="arm").frame,
        "breakdown.by_step": lambda runs: breakdown.by_step(runs, by="arm").frame,
        "survival.cumulative_incidence": lambda runs: survival.cumulative_incidence(runs, by="arm").frame,
        "thinking.continuity": lambda runs: thinking.continuity(runs, by="arm").frame,
        "thinking.policy": thinking.policy,
        "perturbations.detect, first": lambda runs: _unkept(runs, perturbations.detect),
        "perturbations.detect, by another process": perturbations.detect,
        "breakdown.hazard (detection included)": lambda runs: breakdown.hazard(runs, model="clustered").frame,
        "breakdown.triggers (detection included)": lambda runs: breakdown.triggers(runs, by="arm").frame,
        "breakdown.event_study": lambda runs: breakdown.event_study(runs, "timeout").frame,
        "behaviour.rates, first": lambda runs: behaviour.rates(runs, by="arm").frame,
        "behaviour.rates, by another process": lambda runs: behaviour.rates(runs, by="arm").frame,
    }  # fmt: skip


# ---------------------------------------------------------------------- one case in a process of its own


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


def _measured(work: Callable[[], pl.DataFrame]) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")
    before, cpu, began = _peak(), time.process_time(), time.perf_counter()
    found = work()
    taken = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - began}
    size = found.estimated_size("mb")
    return {**taken, "memory": _peak() - before, "result": size, "found": _frame(found)}


def _bare_scan(runs: Any) -> pl.DataFrame:
    size = pl.col("text").str.len_bytes().cast(pl.Int64).sum()
    answers = runs.events.filter(pl.col("kind") == "tool_result")
    return answers.select(size).collect(engine="streaming")


def _case(store: Path, name: str, side: str) -> dict[str, Any]:
    import loaders

    for module in ("analysis.signals", "analysis.thinking"):  # importing is no part of a case
        importlib.import_module(module)

    if name == "one_run":
        return _opened(store, side)
    runs = loaders.scan(store)
    if side == "derail":
        work = CASES[name] if name in CASES else _analyses()[name]
        return _measured(lambda: work(runs))
    if side == "scan":
        return _measured(lambda: _bare_scan(runs))
    import duckdb  # pyright: ignore[reportMissingImports]

    files = {
        table: sorted(str(path) for path in store.rglob(f"{table}*.parquet"))
        for table in ("trajectories", "steps", "events")
    }
    tables = {table: f"read_parquet({paths})" for table, paths in files.items()}
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    return _measured(
        lambda: pl.DataFrame(connection.execute(SQL[name].format(**tables)).fetchnumpy())
    )


def _opened(store: Path, side: str) -> dict[str, Any]:
    """Milliseconds until one run's text is there, of some runs one after the other."""
    import loaders

    count = pl.scan_parquet(sorted(store.rglob("trajectories*.parquet"))).select(pl.len()).collect()
    asked = [count.item() * part // 21 for part in range(21)]
    taken: list[float] = []
    found: list[Any] = []
    if side == "derail":
        runs = loaders.scan(store)
        for run in asked:
            began = time.perf_counter()
            text = runs[f"run-{run:09}"].events.select("seq", "text").collect()["text"]
            taken.append(1_000 * (time.perf_counter() - began))
            found.append(text.str.len_bytes().sum())
    else:
        import duckdb  # pyright: ignore[reportMissingImports]

        connection = duckdb.connect()
        connection.execute("set threads = 2")
        files = sorted(str(path) for path in store.rglob("events*.parquet"))
        for run in asked:
            began = time.perf_counter()
            query = f"select seq, text from read_parquet({files}) where run = {run} order by seq"
            texts = connection.execute(query).fetchall()
            taken.append(1_000 * (time.perf_counter() - began))
            found.append(sum(len(text.encode()) for _, text in texts if text is not None))
    return {"first": taken[0], "next": median(taken[1:]), "found": found}


def _run(store: Path, name: str, side: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", str(store), name, side]
    environment = as_users_have_it(POLARS_MAX_THREADS="2")
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(told.stdout.splitlines()[-1])


# ---------------------------------------------------------------------- all of them


def _beside(store: Path, name: str) -> str:
    sides: dict[str, list[dict[str, Any]]] = {"derail": [], "duckdb": []}
    if name in OF_TEXTS:
        sides["scan"] = []
    for _ in range(ROUNDS):
        for side, results in sides.items():
            results.append(_run(store, name, side))
    ours, theirs = sides["derail"], sides["duckdb"]
    if ours[0]["found"] != theirs[0]["found"]:
        raise SystemExit(f"{name}: {ours[0]['found']} here, {theirs[0]['found']} in DuckDB")
    ratio = median(a["cpu"] / b["cpu"] for a, b in zip(ours, theirs, strict=True))
    told = (CASES[name].__doc__ or "").splitlines()[0].rstrip(".")
    cells = [f"{median(r[key] for r in side):{form}}" for side in (ours, theirs) for key, form in (("cpu", ".2f"), ("memory", ".0f"))]  # fmt: skip
    scans = [a["cpu"] / b["cpu"] for a, b in zip(ours, sides.get("scan", []), strict=False)]
    times = f"{median(scans):.2f}" if scans else ""
    return f"| {told} | {' | '.join(cells)} | {ratio:.2f} | {times} | {ours[0]['result']:.0f} |"


def _opening(store: Path) -> str:
    rounds = [
        [_run(store, "one_run", side) for side in ("derail", "duckdb")] for _ in range(ROUNDS)
    ]
    ours, theirs = rounds[0]
    if ours["found"] != theirs["found"]:
        raise SystemExit(f"one_run: {ours['found']} here, {theirs['found']} in DuckDB")
    told = (
        f"{median(pair[side]['next'] for pair in rounds):.1f} ms (the first {pair_first:.0f} ms)"
        for side in (0, 1)
        for pair_first in [median(pair[side]["first"] for pair in rounds)]
    )
    return "The text of one run, `runs[id].events`, wall time: {}; the same in DuckDB: {}.".format(
        *told
    )


def _alone(store: Path, name: str, scan: float) -> str:
    found = _run(store, name, "derail")
    return f"| `{name}` | {found['cpu']:.1f} | {found['memory']:.0f} | {found['cpu'] / scan:.1f} |"


def main() -> None:
    """Make the store where it is not there, run every case, print the tables."""
    from many_runs import make

    chosen = [word for word in sys.argv[1:] if not word.startswith("-")]
    only = chosen.pop() if "--only" in sys.argv else None
    events = int(float(chosen[0])) if chosen else 10_000_000
    place = Path(os.environ.get("DERAIL_BENCHMARK_DATA", tempfile.gettempdir()))
    store = make(place / f"derail-{events}", events)
    lines = [
        f"{events:,} events. CPU seconds of two threads, MB at the peak; DuckDB beside it in the same run.",
        "",
        "| query | CPU | MB | DuckDB CPU | MB | ratio of CPU | times a bare scan of the texts | MB of the result |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    names = [name for name in CASES if only in (None, name)]
    for name in names:
        lines.append(_beside(store, name))
        print(lines[-1], flush=True)
    if only in (None, "one_run"):
        lines += ["", _opening(store)]
        print(lines[-1], flush=True)
    whole = [name for name in _analyses() if only is None or name.startswith(only)]
    if whole and "--narrow" not in sys.argv:
        scan = median(_run(store, "counts", "scan")["cpu"] for _ in range(ROUNDS))
        lines += [
            "",
            "Whole analyses, each run once, beside a bare scan of the text of all tool responses.",
            "",
            "| analysis | CPU | MB | times a scan |",
            "|---|---:|---:|---:|",
        ]
        for name in whole:
            lines.append(_alone(store, name, scan))
            print(lines[-1], flush=True)
    if "--write" in sys.argv:
        from tables import put

        put("analyses", "\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(_case(Path(sys.argv[2]), *sys.argv[3:5])))
    else:
        main()
