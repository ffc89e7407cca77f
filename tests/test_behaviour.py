"""Signals of behaviour against patterns planted in small chats, cascades in simulations, and real logs."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small import runs_of

import loaders
from analysis import behaviour
from analysis.event_study import event_study
from analysis.plots import to_svg
from loaders import DerailError, Trajectories

Message = dict[str, Any]


def call(tool: str = "look", /, **arguments: Any) -> Message:
    return {"tool": tool, "arguments": arguments}


def chat(*parts: Any) -> list[Message]:
    """Messages of a run: texts are the model's, ("user", text), (call, response) pairs."""
    log: list[Message] = [{"role": "user", "content": "go"}]
    for number, part in enumerate(parts):
        if isinstance(part, str):
            log.append({"role": "assistant", "content": part})
        elif part[0] == "user":
            log.append({"role": "user", "content": part[1]})
        else:
            asked, response = part
            given = asked["arguments"]
            arguments = given["raw"] if "raw" in given else repr(given).replace("'", '"')
            function = {"name": asked["tool"], "arguments": arguments}
            made = {"id": f"c{number}", "type": "function", "function": function}
            message = {"role": "assistant", "tool_calls": [made]}
            if "thinks" in given:
                message["reasoning_content"] = "let me see " * 10
            log.append(message)
            if response is not None:
                log.append({"role": "tool", "tool_call_id": f"c{number}", "content": response})
    return log


def signals(*parts: Any, **options: Any) -> pl.DataFrame:
    return behaviour.signals(loaders.from_messages([chat(*parts)]), **options)


BROKEN = '{"error": "no such thing"}'


def test_the_same_again_is_stuck_from_the_fourth_time_on() -> None:
    table = signals(*[(call(n=1), "same")] * 5)
    assert table["stuck_same"].to_list() == [False, False, False, True, True]
    assert table["stuck_error"].to_list() == [False] * 5
    assert table["repeat"].to_list() == [False, True, True, True, True]
    assert table["stagnation"].to_list() == [0, 1, 2, 3, 4]


def test_another_response_is_not_stuck() -> None:
    table = signals(*[(call(n=1), f"line {n}") for n in range(5)])
    assert not table["stuck_same"].any()
    assert table["repeat"].sum() == 4
    assert table["stagnation"].to_list() == [0] * 5


def test_an_unanswered_call_is_no_evidence_of_being_stuck() -> None:
    table = signals(*[(call(n=1), None)] * 5)
    assert table["stuck_same"].to_list() == [None] * 5
    assert table["stuck_error"].to_list() == [None] * 5


def test_the_same_call_that_fails_thrice_whatever_the_error_says() -> None:
    parts = [(call(n=1), f'{{"error": "failed at {n}"}}') for n in range(4)]
    assert signals(*parts)["stuck_error"].to_list() == [False, False, True, True]
    parts[1] = (call(n=1), "fine")
    assert not signals(*parts)["stuck_error"].any()


def test_a_user_turn_begins_anew_but_a_repeat_is_one_across_turns() -> None:
    same = (call(n=1), "same")
    table = signals(same, same, same, "that is it", ("user", "again"), same)
    assert not table["stuck_same"].any()
    assert table.filter(step=4)["repeat"].item()


def test_a_monologue_is_three_calls_without_a_tool_and_without_a_user() -> None:
    tool = (call(n=1), "x")
    table = signals(tool, "a", "b", "c", "d", tool, "e", "f")
    assert table["monologue"].to_list() == [*[False] * 3, True, True, False, False, False]
    talk = signals(tool, "a", ("user", "yes"), "b", ("user", "no"), "c")
    assert not talk["monologue"].any()


def test_a_run_that_has_no_tools_holds_no_monologue() -> None:
    assert signals("a", "b", "c", "d")["monologue"].to_list() == [None] * 4


def test_alternation_is_six_calls_of_two_kinds() -> None:
    a, b = (call(n=1), "one"), (call(n=2), "two")
    assert signals(a, b, a, b, a, b, a)["alternation"].to_list() == [*[False] * 5, True, True]
    assert not signals(*[a] * 7)["alternation"].any()
    assert not signals(a, b, a, b, a, (call(n=3), "two"), a)["alternation"].any()
    assert not signals(a, b, a, b, a, (call(n=2), "news"), a)["alternation"].any()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', True),
        ('{"a": 1, "b": 2}', '{ "a" : 1,\n "b" : 2 }', True),
        ('{"a": 1, "b": 2}', '{"a": 2, "b": 1}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": {"x": 1, "y": 3}, "b": {"x": 1, "y": 2}}', '{"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}', False),
        ('{"code": "if x:\\n    go()"}', '{"code": "if x:\\n  go()"}', False),
        ('{"q": "b, a"}', '{"q": "a, b"}', False),
    ],
)  # fmt: skip
def test_arguments_are_the_same_if_only_spacing_and_order_of_keys_differ(
    first: str, second: str, same: bool
) -> None:
    table = signals((call(raw=first), "x"), (call(raw=second), "y"))
    assert table["repeat"].to_list() == [False, same]


def test_the_window_bounds_how_far_back_a_repeat_reaches() -> None:
    parts = [(call(n=1), "x"), *[(call(n=n), "x") for n in range(2, 12)], (call(n=1), "x")]
    assert not signals(*parts)["repeat"].any()
    assert signals(*parts, window=11)["repeat"].to_list() == [*[False] * 11, True]


def test_a_tool_that_polls_can_be_ignored() -> None:
    poll = (call("get_status"), "pending")
    parts = [(call("start", n=1), "started"), *[poll] * 6, (call("stop", n=1), "stopped")]
    assert signals(*parts)["stuck_same"].sum() == 3
    table = signals(*parts, ignore=["get_status"])
    assert not table["stuck_same"].any()
    assert table["stagnation"].max() == 0
    assert table["calls"].to_list() == [1] * 8


def test_stagnation_ends_with_a_new_file_or_address_too() -> None:
    table = signals(
        (call(path="src/a.py"), "ok"),
        (call(path="src/a.py", again=1), "ok"),
        (call(path="src/b.py"), "ok"),
        (call(url="https://example.org/x"), "ok"),
        (call(n=7), "ok"),
        "thinking about it",
        (call(n=8), "new"),
    )
    assert table["stagnation"].to_list() == [0, 1, 0, 0, 1, 2, 0]


def test_entropy_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    tools = [str(tool) for tool in rng.choice(["a", "b", "c", "d"], 40, p=[0.5, 0.3, 0.15, 0.05])]
    for window in (4, 10):
        table = signals(*[(call(t, n=n), "x") for n, t in enumerate(tools)], window=window)
        for step, found in enumerate(table["entropy"]):
            used = len(set(tools[: step + 1]))
            if used < 2:
                assert found is None
                continue
            shares = np.array(
                list(Counter(tools[max(0, step + 1 - window) : step + 1]).values()), float
            )
            shares /= shares.sum()
            assert found == pytest.approx(
                float(-(shares * np.log(shares)).sum() / math.log(used)), abs=1e-12
            )


def test_a_cascade_counts_steps_of_errors_in_a_row() -> None:
    fine, bad = "fine", BROKEN
    parts = [(call(n=n), text) for n, text in enumerate([fine, bad, bad, fine, bad, bad, bad])]
    table = signals(*parts[:6], "hm", parts[6])
    assert table["cascade"].to_list() == [0, 1, 2, 0, 1, 2, 2, 3]


def test_signals_of_one_run_do_not_leak_into_the_next() -> None:
    same = (call(n=1), BROKEN)
    runs = loaders.from_messages([chat(same, same), chat(same, same), chat(same, same)])
    table = behaviour.signals(runs)
    assert table["cascade"].to_list() == [1, 2] * 3
    assert table["repeat"].to_list() == [False, True] * 3
    assert not table["stuck_error"].any()


def test_density_and_interleaving_come_from_what_is_logged() -> None:
    steps = [
        {"run": 0, "step": 0, "seq": 0, "output_tokens": 80, "reasoning_tokens": 20, "thinking": "text"},
        {"run": 0, "step": 1, "seq": 2, "thinking": "absent"},
        {"run": 0, "step": 2, "seq": 4, "thinking": "text", "thinking_chars": 30},
        {"run": 0, "step": 3, "seq": 7, "thinking": "not_logged"},
        {"run": 0, "step": 4, "seq": 9, "thinking": "text", "thinking_chars": 5},
    ]  # fmt: skip
    asked, told = {"kind": "tool_call", "tool": "look"}, {"kind": "tool_result", "text": "x"}
    kinds: list[tuple[int, dict[str, Any]]] = [
        (0, asked | {"arguments": '{"n":1}'}),
        (0, told | {"call_seq": 0}),
        (1, asked | {"arguments": '{"n":2}'}),
        (1, told | {"call_seq": 2}),
        (2, {"kind": "thinking", "text": "t" * 30}),
        (2, asked | {"arguments": "x" * 10}),
        (2, told | {"call_seq": 5}),
        (3, asked | {"arguments": "{}"}),
        (3, told | {"call_seq": 7}),
        (4, asked | {"arguments": "{}"}),
        (4, {"kind": "thinking", "text": "t" * 5}),
    ]
    events = [{"run": 0, "seq": n, "step": step, **part} for n, (step, part) in enumerate(kinds)]
    table = behaviour.signals(runs_of([{"run": 0, "steps": 5}], steps, events))
    assert table["density"].to_list() == [0.25, 0.0, 0.75, None, pytest.approx(5 / 7)]
    # The first follows no response; the last thinks after it has acted.
    assert table["interleaved"].to_list() == [None, False, True, None, False]


# ---------------------------------------------------------------------- ends of runs


EDIT = (call("edit_file", path="a.py", text="x"), "edited")
TEST = (call("bash", command="python -m pytest -q"), "2 passed")


@pytest.mark.parametrize(
    ("parts", "premature"),
    [
        ([EDIT, TEST, "done"], False),
        ([TEST, EDIT, "done"], True),
        ([EDIT, TEST, EDIT, (call("submit"), "ok")], True),
        ([EDIT, TEST, (call("submit"), "ok")], False),
        ([TEST, "nothing to edit"], None),
        ([EDIT, "no tool could have verified it"], None),
        ([TEST, EDIT], None),  # ends in the middle
        ([TEST, EDIT, (call("bash", command="cat a.py"), "x"), "read back"], True),
        ([(call("bash", command="sed -i s/a/b/ a.py && make test"), "ok"), "done"], False),
        ([(call("bash", command="echo x > a.py"), "ok"), "done"], True),
        ([TEST, (call("bash", command="git diff a.py > patch.txt"), "ok"), "done"], None),
        ([TEST, (call("edit_file", path="README.md", text="x"), "ok"), "done"], None),
        ([(call("bash", command="grep x a.py 2>/dev/null"), "ok"), "looked"], None),
        ([TEST, (call("str_replace_editor", command="view", path="a.py"), "x"), "read"], None),
    ],
)
def test_premature_stops(parts: list[Any], premature: bool | None) -> None:
    found = behaviour.premature_stops(loaders.from_messages([chat(*parts)]))
    assert found["premature_stop"].to_list() == [premature]


def test_a_run_that_was_cut_off_did_not_stop_by_itself() -> None:
    log = chat(TEST, EDIT, "done")
    runs = loaders.from_messages([log, log], outcome=["limit", "failure"])
    assert behaviour.premature_stops(runs)["premature_stop"].to_list() == [None, True]


def test_plan_drift_is_one_minus_jaccard_of_what_is_named() -> None:
    plan = "I will read src/main.py and utils.py, then call parse_date."
    acts = [(call(path=name), "x") for name in ("src/main.py", "utils.py", "other.py", "a/b.txt")]
    runs = loaders.from_messages(
        [
            chat(plan, *acts, (call(n=1), "x")),  # 2 shared of 3 + 2 that only one names
            chat(plan, *acts),  # four actions only
            chat("Let us go.", *acts, (call(n=1), "x")),
        ]
    )
    found = behaviour.plan_drift(runs)["plan_drift"].to_list()
    assert found == [pytest.approx(1 - 2 / 5), None, None]


# ---------------------------------------------------------------------- rates


def simulated(
    seed: int, base: float, after: float, tasks: int = 40, runs: int = 4, spread: float = 0.0
) -> Trajectories:
    """Runs of 15 steps whose error rate is ``base``, and ``after`` once the step before had one; both
    differ between runs by ``spread`` on the logit scale."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for run in range(tasks * runs):
        shift = rng.normal(0, spread) if spread else 0.0
        bad = False
        rows.append({"run": run, "task_id": f"t{run % tasks}", "steps": 15})
        for step in range(15):
            logit = math.log((after if bad else base) / (1 - (after if bad else base))) + shift
            bad = bool(rng.random() < 1 / (1 + math.exp(-logit)))
            at = {"run": run, "step": step, "tool": "look"}
            steps.append({"run": run, "step": step, "seq": 2 * step})
            events += [
                {**at, "seq": 2 * step, "kind": "tool_call", "arguments": f'{{"n":{step}}}'},
                {
                    **at,
                    "seq": 2 * step + 1,
                    "kind": "tool_result",
                    "call_seq": 2 * step,
                    "text": f"answer {step}",
                    "exit_code": int(bad),
                },
            ]
    return runs_of(rows, steps, events)


def row(frame: pl.DataFrame, signal: str) -> dict[str, Any]:
    return frame.row(by_predicate=pl.col("signal") == signal, named=True)


def test_a_planted_cascade_is_found() -> None:
    frame = behaviour.rates(simulated(1, base=0.15, after=0.5), by=None).frame
    after, none = row(frame, "error_after_error"), row(frame, "error_after_none")
    assert after["low"] < 0.5 < after["high"]
    assert none["low"] < 0.15 < none["high"]
    assert row(frame, "error_runs_together")["low"] > 1.3


def test_runs_prone_to_errors_are_no_cascade() -> None:
    """A mixture of good and bad runs raises P(error | error), not what random order would give."""
    runs = simulated(100, base=0.2, after=0.2, spread=1.5)
    frame = behaviour.rates(runs, by=None).frame
    assert row(frame, "error_after_error")["low"] > row(frame, "error_after_none")["high"]
    together = row(frame, "error_runs_together")
    assert together["low"] < 1 < together["high"]


def test_the_ratio_to_chance_is_unbiased_and_its_interval_covers() -> None:
    rng = np.random.default_rng(0)
    ratios, hits = [], []
    runs, steps = 80, 15
    for _ in range(200):
        rate = 1 / (1 + np.exp(1.4 - rng.normal(0, 1.5, runs)))
        failing = pl.DataFrame(
            {
                "run": np.repeat(np.arange(runs), steps),
                "error": (rng.random((runs, steps)) < rate[:, None]).ravel(),
            }
        )
        task = (pl.col("run") % 20).cast(pl.String).alias("task")
        counts = behaviour._error_counts(failing).with_columns(task)
        found = behaviour._ratio(counts.filter(pl.col("expected") > 0), "both", "expected", 0.95)
        ratios.append(found.value)
        hits.append(found.low < 1 < found.high)
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)
    assert np.mean(hits) >= 0.9


def test_means_weigh_runs_alike_and_lead_back_to_them() -> None:
    same, other = (call(n=1), "same"), (call(n=2), "x")
    logs = [chat(same, same, same, same), chat(same, other)]
    runs = loaders.from_messages(logs, arm="a", task_id=["x", "y"])
    result = behaviour.rates(runs)
    found = row(result.frame, "repeat")
    assert (found["value"], found["showing"], found["runs"]) == (0.375, 1, 2)
    assert found["low"] is None
    assert found["refused"] == "no interval for 2 runs of 2 tasks; 10 of 5 are needed"
    assert result.runs(signal="repeat", role="shows").ids == runs.ids[:1]
    assert any("Polling" in text for text in result.warnings)
    assert "Polling" not in " ".join(behaviour.rates(runs, ignore=["look"]).warnings)


def test_few_errors_are_refused_and_a_constant_has_no_interval() -> None:
    frame = behaviour.rates(simulated(2, base=0.002, after=0.002, tasks=15, runs=2), by=None).frame
    assert "10 are needed" in row(frame, "error_after_error")["refused"]
    assert row(frame, "error_after_error")["value"] is None
    assert "same in every task" in row(frame, "stuck_same")["refused"]


def test_logs_without_model_calls_are_told_as_such() -> None:
    with pytest.raises(DerailError, match="no model calls"):
        behaviour.rates(runs_of([{"run": 0, "success": True}]))
    with pytest.raises(DerailError, match="no column 'mood'"):
        behaviour.rates(runs_of([{"run": 0}]), by="mood")
    with pytest.raises(DerailError, match="at least 1, not 0"):
        signals((call(n=1), "x"), window=0)


def test_a_store_gives_what_memory_gives_and_arms_may_be_unknown(tmp_path: Path) -> None:
    same, other = (call(n=1), BROKEN), (call(n=2), "x")
    logs = [chat(same, same, other), chat(other), chat(same, "done")]
    runs = loaders.from_messages(logs, arm=["a", None, "a"], task_id=["x", "y", "z"])
    stored = loaders.scan(runs.save(tmp_path / "store"))
    assert behaviour.signals(stored).equals(behaviour.signals(runs))
    frame = behaviour.rates(stored, by=["arm", "format"]).frame
    assert frame.filter(signal="repeat").select("arm", "value", "runs").rows() == [
        ("a", pytest.approx(1 / 6), 2),
        (None, 0.0, 1),
    ]


def test_signals_are_outcomes_of_an_event_study() -> None:
    runs = simulated(3, base=0.15, after=0.5)
    value = behaviour.signals(runs).select("run", "step", value=pl.col("cascade"))
    found = event_study(runs, "exec_error", value, window=(-2, 1)).frame
    assert found.filter(tau=0)["effect"].item() is not None


def test_the_chart_draws_what_is_known() -> None:
    svg = to_svg(behaviour.rates(simulated(1, base=0.15, after=0.5), by=None).chart())
    assert "error_runs_together" in svg
    assert "plan_drift" not in svg  # of which these logs tell nothing


# ---------------------------------------------------------------------- real logs


def test_bfcl_repeats_fall_between_the_two_builds(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "bfcl" / "results" / "{arm}" / "result")
    arm = runs.trajectories.select("run", "arm").collect()
    table = behaviour.calls(runs, window=1).with_columns(
        (pl.col("turn") == pl.col("turn").shift(1).over("run")).alias("same_turn")
    )
    counts = table.filter("repeat", "same_turn").join(arm, on="run")["arm"].value_counts()
    assert sorted(counts["count"].to_list()) == [5, 27]
    stuck = behaviour.rates(runs).frame.filter(signal="stuck_same")
    assert sorted(stuck["showing"].to_list()) == [0, 4]


def test_tau_bench_errors_beget_errors(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "tau_bench")
    table = behaviour.signals(runs)
    calls = runs.events.filter(pl.col("kind") == "tool_call").select(pl.len()).collect().item()
    assert table["calls"].sum() == calls == 1164
    assert not table["monologue"].any()  # a customer speaks after each message
    frame = behaviour.rates(runs, by=None).frame
    assert row(frame, "error_after_error")["value"] > 3 * row(frame, "error_after_none")["value"]


def test_agentdojo_responses_taken_away_are_asked_for_again(real_logs: Path) -> None:
    """The detector arm replaces tool outputs by a notice; repeats are counted in the raw files."""
    runs = loaders.load(real_logs / "agentdojo")
    model = runs.trajectories.select("run", "model", "source").collect()
    at_once = behaviour.calls(runs, window=1).filter("repeat").join(model, on="run")
    found = dict(at_once["model"].value_counts().iter_rows())
    counted: Counter[str] = Counter()
    for source, name in model.select("source", "model").iter_rows():
        asked = [
            (made["function"], json.dumps(made["args"], sort_keys=True))
            for message in json.loads(Path(source).read_text())["messages"]
            for made in message.get("tool_calls") or []
        ]
        counted[name] += sum(a == b for a, b in pairwise(asked))
    assert found == {name: count for name, count in counted.items() if count}
    detector = next(name for name in counted if "detector" in name)
    assert counted[detector] > 10 * counted["gpt-4o-2024-05-13"]
