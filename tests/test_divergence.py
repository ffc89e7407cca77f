"""Where pairs part: planted differences are named, ids and order of keys are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small import Rows, runs_of

import loaders
from analysis import breakdown
from loaders import DerailError, Trajectories

Call = tuple[str, str, str]
"""Tool, arguments, response."""


def acting(
    *arms: tuple[str, list[list[Call]]], lacks: dict[str, list[int]] | None = None, **more: Any
) -> Trajectories:
    """A run for each arm and task; each step a list of parallel calls."""
    trajectories: Rows = []
    steps: Rows = []
    events: Rows = []
    for run, (arm, turns) in enumerate(arms):
        seq = 0
        trajectories.append({"run": run, "arm": arm, "task_id": "t", "trial": "0", "steps": len(turns),
                             **{name: value.get(arm) for name, value in more.items()}})  # fmt: skip
        for step, calls in enumerate(turns):
            missing = (lacks or {}).get(arm, [0] * len(turns))[step]
            steps.append({"run": run, "step": step, "seq": seq, "thinking_available": step,
                          "thinking_sent": step - missing})  # fmt: skip
            for number, (tool, arguments, _) in enumerate(calls):
                events.append({"run": run, "seq": seq, "step": step, "kind": "tool_call", "tool": tool,
                               "arguments": arguments, "call_id": f"{arm}-{step}-{number}"})  # fmt: skip
                seq += 1
            for number, (tool, _, text) in enumerate(calls):
                events.append({"run": run, "seq": seq, "step": step, "kind": "tool_result", "tool": tool, "text": text,
                               "call_seq": seq - len(calls), "call_id": f"{arm}-{step}-{number}"})  # fmt: skip
                seq += 1
    return runs_of(trajectories, steps, events)


LOOK: Call = ("read", '{"path": "src/a.py", "lines": 5}', "text")
SAME: Call = ("read", '{"lines":5,"path":"src/a.py"}', "text")
MORE: Call = ("read", '{"path": "src/a.py", "lines": 9}', "text")
OTHER: Call = ("read", '{"path": "src/b.py", "lines": 5}', "text")
WRITE: Call = ("write", '{"path": "src/a.py"}', "done")


def only(runs: Trajectories, **options: Any) -> dict[str, Any]:
    return breakdown.first_divergence(runs, **options).frame.row(0, named=True)


@pytest.mark.parametrize(
    ("b", "parts", "place"),
    [
        ([[SAME], [WRITE]], None, 2),
        ([[MORE], [WRITE]], "arguments", 0),
        ([[LOOK], [OTHER]], "tool", 1),
        ([[OTHER], [WRITE]], "target", 0),
        ([[LOOK]], "one ends", 1),
        ([[LOOK], [], [WRITE]], None, 2),
    ],
)
def test_actions_are_compared_by_content(
    b: list[list[Call]], parts: str | None, place: int
) -> None:
    row = only(acting(("a", [[LOOK], [WRITE]]), ("b", b)))
    assert (row["parts"], row["place"]) == (parts, place)


def test_levels_see_as_much_as_they_say() -> None:
    runs = acting(("a", [[LOOK], [WRITE]]), ("b", [[MORE], [WRITE]]))
    assert only(runs, level="target")["parts"] is None
    other = acting(("a", [[LOOK], [WRITE]]), ("b", [[OTHER], [WRITE]]))
    assert only(other, level="tool")["parts"] is None
    assert only(other, level="target")["parts"] == "target"


def test_parallel_calls_are_a_set() -> None:
    assert only(acting(("a", [[LOOK, OTHER]]), ("b", [[OTHER, SAME]])))["parts"] is None


def test_what_had_differed_first_is_named() -> None:
    told = ("read", LOOK[1], "another text")
    after_response = only(acting(("a", [[LOOK], [WRITE]]), ("b", [[told], [OTHER]])))
    assert (after_response["first_difference"], after_response["response_place"]) == ("response", 0)
    too_late = only(acting(("a", [[LOOK]]), ("b", [[("read", MORE[1], "another text")]])))
    assert (
        too_late["first_difference"] == "nothing seen"
    )  # what answers the parting action is no reason
    sent = acting(
        ("a", [[LOOK], [LOOK], [WRITE]]), ("b", [[LOOK], [LOOK], [OTHER]]), lacks={"b": [0, 1, 2]}
    )
    assert only(sent)["first_difference"] == "thinking sent"
    both = acting(
        ("a", [[LOOK], [LOOK], [WRITE]]), ("b", [[told], [LOOK], [OTHER]]), lacks={"b": [0, 0, 1]}
    )
    assert only(both)["first_difference"] == "response"
    prompt = acting(("a", [[LOOK]]), ("b", [[WRITE]]), system_prompt={"a": "p1", "b": "p2"})
    assert only(prompt)["first_difference"] == "prompts"
    assert only(prompt)["tools_differ"] is None  # not logged is not the same


def test_runs_of_a_pair_open() -> None:
    found = breakdown.first_divergence(acting(("a", [[LOOK]]), ("b", [[WRITE]])))
    assert found.runs(pair=0).ids == ["r0", "r1"]
    assert found.runs("b", pair=0).ids == ["r1"]
    with pytest.raises(DerailError, match="no level 'words'"):
        breakdown.first_divergence(acting(("a", [[LOOK]]), ("b", [[WRITE]])), level="words")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DerailError, match="two arms"):
        breakdown.first_divergence(acting(("a", [[LOOK]])))


def many(parting: list[int]) -> Trajectories:
    """Pairs that part at these actions of eight, with a second trial of ``a`` that never does."""
    sets = [
        acting(
            ("a", [[LOOK]] * 8), ("b", [[LOOK]] * at + [[WRITE]] * (8 - at)), ("a", [[SAME]] * 8)
        )
        for at in parting
    ]
    tables: dict[str, list[pl.DataFrame]] = {}
    for number, runs in enumerate(sets):
        for name in ("trajectories", "steps", "events", "tools", "problems"):
            frame = getattr(runs, name).collect()
            if "run" in frame.columns:
                frame = frame.with_columns(
                    pl.col("run") + 3 * number,
                    ("s" + pl.lit(str(number)) + pl.col("trajectory_id")).alias("trajectory_id"),
                )
            if name == "trajectories":
                frame = frame.with_columns(
                    task_id=pl.lit(f"t{number}"), trial=(pl.col("run") % 3 // 2).cast(pl.String)
                )
            tables.setdefault(name, []).append(frame)
    return Trajectories.from_frames({name: pl.concat(parts) for name, parts in tables.items()})


def test_the_curve_counts_pairs_still_together() -> None:
    result = breakdown.together(many([2] * 5 + [4] * 3 + [8] * 4))
    between = result.frame.filter(a="a", b="b")
    rows = between.select("place", "at_risk", "parted", "ended").rows()
    assert rows == [(2, 12, 5, 0), (4, 7, 3, 0), (8, 4, 0, 4)]
    assert between["together"].to_list() == pytest.approx([7 / 12, 4 / 12, 4 / 12])
    within = result.frame.filter(a="a", b="a")
    assert within.select("place", "parted", "together").rows() == [(8, 0, 1.0)]
    assert len(result.runs(a="a", b="b")) == 24


def test_two_builds_of_a_server_part_and_the_log_does_not_show_why(real_logs: Path) -> None:
    """BFCL logs no requests, so what the builds send back is not seen."""
    runs = loaders.load(real_logs / "bfcl" / "results" / "{arm}" / "result")
    found = breakdown.first_divergence(runs, pair=["task_id"])
    assert found.frame.height == 200
    assert found.frame["parts"].is_not_null().sum() == 144
    assert found.frame["thinking_sent_differs"].null_count() == 200
    assert any("not known what thinking" in text for text in found.warnings)
