"""Onsets are where they were planted, by each definition, and the definition is said."""

from __future__ import annotations

import pytest
from simulate import Planted, simulate
from small import Rows, runs_of

from analysis import breakdown
from loaders import DerailError, Trajectories


def told(*runs: tuple[bool, list[tuple[str, int]]]) -> Trajectories:
    """Runs of ``(success, [(argument, exit code) per step])``."""
    trajectories: Rows = []
    steps: Rows = []
    events: Rows = []
    for run, (success, calls) in enumerate(runs):
        trajectories.append({"run": run, "task_id": f"t{run}", "success": success, "steps": len(calls),
                             "outcome": "success" if success else "failure"})  # fmt: skip
        for step, (argument, code) in enumerate(calls):
            steps.append({"run": run, "step": step, "seq": 2 * step})
            shared = {"run": run, "step": step, "tool": "t"}
            events.append(
                {
                    **shared,
                    "seq": 2 * step,
                    "kind": "tool_call",
                    "arguments": f'{{"x":"{argument}"}}',
                }
            )
            events.append({**shared, "seq": 2 * step + 1, "kind": "tool_result", "call_seq": 2 * step,
                           "exit_code": code, "text": f"answer {step}"})  # fmt: skip
    return runs_of(trajectories, steps, events)


def onsets(runs: Trajectories, definition: str, **options: int) -> list[int | None]:
    return breakdown.onset(runs, definition, **options).frame["onset"].to_list()  # pyright: ignore[reportArgumentType]


def test_the_first_error_that_is_not_got_over() -> None:
    runs = told(
        (False, [("a", 0), ("b", 1), ("c", 0), ("d", 1), ("e", 1)]),  # 1 is got over, 3 is not
        (True, [("a", 1), ("b", 0)]),
        (False, [("a", 0), ("b", 0)]),
    )
    result = breakdown.onset(runs)
    assert result.frame["onset"].to_list() == [3, None, None]
    assert result.frame["calls_after"].to_list() == [2, None, None]
    assert result.frame["what"][0] == "exec_error"
    assert "within 5 calls" in result.method
    assert "1 of 2 failed runs have such an onset" in result.headline
    assert result.runs("failure_with_onset").ids == ["r0"]
    assert onsets(
        told((False, [("a", 1), ("b", 1), ("c", 1), ("d", 0)])), "first_unrecovered_error", h=2
    ) == [0]


def test_the_loop_in_which_a_run_ends() -> None:
    runs = told(
        (False, [("a", 0), ("b", 0), ("b", 0), ("b", 0), ("b", 0)]),
        (False, [("a", 0), ("b", 0), ("a", 0), ("b", 0), ("a", 0)]),  # alternates
        (False, [("a", 0), ("a", 0), ("a", 0), ("a", 0), ("new", 0)]),  # got out
        (False, [("a", 0), ("b", 0), ("b", 0)]),  # too short
    )
    assert onsets(runs, "terminal_loop") == [2, 2, None, None]


def test_every_run_has_a_largest_drop() -> None:
    runs = simulate(Planted(tasks=16, error_odds=8.0, error_rate=0.15), 4)
    result = breakdown.onset(runs, "largest_drop", refits=1)
    assert result.frame["onset"].null_count() == 0
    assert result.frame["agreement"].is_between(0, 1).all()
    assert any("prediction" in text for text in result.warnings)


def test_a_definition_that_fits_successes_as_well_is_called_out() -> None:
    runs = told(*[(bool(n % 2), [("a", 0), ("b", 1)]) for n in range(8)])
    assert any("marks no breakdown here" in text for text in breakdown.onset(runs).warnings)


def test_an_unknown_definition_is_refused_with_those_there_are() -> None:
    with pytest.raises(DerailError, match="first_unrecovered_error, terminal_loop, largest_drop"):
        onsets(told((False, [("a", 0)])), "end")
