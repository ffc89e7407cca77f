"""Which model call of one log is which model call of another, by what both say that it emitted."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

import polars as pl

from loaders.trajectories import Trajectories

Step = tuple[int, int]
"""A run and the number of a call in it."""
_MOST_ALIKE = 32
"""What more calls than that have said is no mark of any of them."""


def paired_steps(native: Trajectories, other: Trajectories) -> dict[Step, Step]:
    """Calls of ``native`` to the same calls of ``other``.

    Two calls are the same if they emitted the same call ids, arguments, texts or thinking; the rarer
    what they share, the more it says. Each run of ``other`` belongs to one run of ``native``, and
    both go forward in the same order. Calls that emitted nothing are paired by their place between
    two that did, where as many lie between them on both sides.
    """
    shared = _shared_marks(native, other)
    steps = _numbers_of_steps(native), _numbers_of_steps(other)
    pairs: dict[Step, Step] = {}
    for run, others in _runs_that_belong_together(shared).items():
        in_run: dict[int, Step] = {}
        for other_run in others:
            _pair_forward(in_run, shared.get((run, other_run), []), other_run)
        _fill_gaps(in_run, steps[0].get(run, 0), steps[1])
        pairs.update(((run, step), found) for step, found in in_run.items())
    return pairs


Candidates = dict[Step, list[tuple[int, int, float]]]
"""(run of the one, run of the other) to (step, step, weight), in the order of the first step."""


def _shared_marks(native: Trajectories, other: Trajectories) -> Candidates:
    ours, theirs = _marks(native), _marks(other).rename({"run": "other_run", "step": "other_step"})
    rare = theirs.group_by("mark").len("n_theirs").filter(pl.col("n_theirs") <= _MOST_ALIKE)
    rare = rare.join(ours.group_by("mark").len("n_ours"), on="mark")
    rare = rare.filter(pl.col("n_ours") <= _MOST_ALIKE)
    found = (
        ours.join(rare, on="mark")
        .join(theirs, on="mark")
        .with_columns(weight=1 / (pl.col("n_ours") * pl.col("n_theirs")))
        .group_by("run", "other_run", "step", "other_step")
        .agg(pl.col("weight").sum())
        .sort("run", "other_run", "step", "weight", descending=[False, False, False, True])
    )
    shared: Candidates = defaultdict(list)
    for run, other_run, step, other_step, weight in found.iter_rows():
        shared[run, other_run].append((step, other_step, weight))
    return shared


def _marks(runs: Trajectories) -> pl.DataFrame:
    """(run, step, mark) for everything that a call emitted and that may tell it from others."""
    plain = pl.col("text").str.replace_all(r"\s+", " ").str.strip_chars()
    done = pl.concat_str(
        pl.col("tool"), pl.col("arguments").str.replace_all(r"\s+", ""), separator="\0"
    )
    return (
        runs.events.filter(
            pl.col("step").is_not_null(), pl.col("kind").is_in(["tool_call", "message", "thinking"])
        )
        .select(
            "run",
            "step",
            mark=pl.concat_list(
                pl.format("id {}", "call_id"),
                pl.format("do {}", done),
                pl.format("{} {}", pl.col("kind").cast(pl.String), plain),
            ),
        )
        .explode("mark")
        .filter(pl.col("mark").is_not_null())
        .unique()
        .collect()
    )


def _numbers_of_steps(runs: Trajectories) -> dict[int, int]:
    return dict(runs.trajectories.select("run", "steps").collect().iter_rows())


def _runs_that_belong_together(shared: Candidates) -> dict[int, list[int]]:
    """Each other run to the run with which it shares most; a run may have several."""
    votes = {
        runs: sum({step: weight for step, _, weight in reversed(found)}.values())
        for runs, found in shared.items()
    }
    taken: set[int] = set()
    together: dict[int, list[int]] = defaultdict(list)
    for run, other_run in sorted(votes, key=lambda runs: (-votes[runs], runs)):
        if other_run not in taken:
            taken.add(other_run)
            together[run].append(other_run)
    return together


def _pair_forward(
    in_run: dict[int, Step], found: Iterable[tuple[int, int, float]], other_run: int
) -> None:
    """Pair the steps of two runs so that both go forward, the best candidates first."""
    fixed: list[tuple[int, int]] = []  # ascending in both
    for step, other_step, _ in sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1])):
        if step in in_run:
            continue
        index = bisect_right(fixed, (step, other_step))
        before = fixed[index - 1] if index else (-1, -1)
        after = fixed[index] if index < len(fixed) else None
        is_later = before[0] < step and before[1] < other_step
        if is_later and (after is None or (step < after[0] and other_step < after[1])):
            fixed.insert(index, (step, other_step))
            in_run[step] = (other_run, other_step)


def _fill_gaps(in_run: dict[int, Step], steps: int, steps_of_others: dict[int, int]) -> None:
    for (step, (run, other)), (later, (later_run, later_other)) in _neighbours(
        in_run, steps, steps_of_others
    ):
        if run == later_run and later - step == later_other - other:
            for offset in range(1, later - step):
                in_run[step + offset] = (run, other + offset)


def _neighbours(
    in_run: dict[int, Step], steps: int, steps_of_others: dict[int, int]
) -> Iterator[tuple[tuple[int, Step], tuple[int, Step]]]:
    if not in_run:
        return
    known = sorted(in_run.items())
    first_run, last_run = known[0][1][0], known[-1][1][0]
    begin = (-1, (first_run, -1))
    end = (steps, (last_run, steps_of_others.get(last_run, 0)))
    yield from pairwise([begin, *known, end])
