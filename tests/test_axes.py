"""The five axes: planted differences, unknown values, and arms of real experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generator import Generator
from simulate_outcomes import toolsets

import loaders
from analysis import axes
from analysis.agreement import AXES, agreement, same_calls
from analysis.wording import json_leaves, line_difference, schema_changes, shown
from loaders import DerailError, Trajectories
from loaders.schema import TABLES

STUDY = [
    Path(__file__).parent.parent / f"sample_logs/study/{{arm}}/planner-1/inspect/{kind}.eval"
    for kind in ("none", "timeout", "returned_error")
]
"""Every task without a perturbation, and some of them with two kinds."""


def made(
    runs: list[dict[str, Any]], answers: dict[int, list[tuple[str, str | None]]] | None = None
) -> Trajectories:
    """Runs as given; ``answers``: run -> (arguments, response) of its calls, in order."""
    rows = [
        {"run": n, "trajectory_id": f"r{n}", "task_id": "t", "steps": 1, **run}
        for n, run in enumerate(runs)
    ]
    events: list[dict[str, Any]] = []
    for run, calls in (answers or {}).items():
        for seq, (arguments, text) in enumerate(calls):
            shared = {"run": run, "trajectory_id": f"r{run}", "step": seq, "tool": "look"}
            events.append(shared | {"seq": 2 * seq, "kind": "tool_call", "arguments": arguments})
            events.append(
                shared
                | {"seq": 2 * seq + 1, "kind": "tool_result", "text": text, "call_seq": 2 * seq}
            )
    tables = {name: pl.DataFrame(schema=schema) for name, schema in TABLES.items()}
    tables["trajectories"] = pl.DataFrame(rows, schema=TABLES["trajectories"])
    tables["events"] = pl.DataFrame(events, schema=TABLES["events"])
    return Trajectories.from_frames(tables)


def tool(name: str, description: str = "does it", **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties or {"q": {"type": "string"}}}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def chat(user: str, system: str, tools: list[dict[str, Any]]) -> dict[str, Any]:
    said = [("system", system), ("user", user), ("assistant", "done")]
    messages = [{"role": role, "content": content} for role, content in said]
    return {"messages": messages, "tools": tools}


def two_arms(
    a: tuple[str, list[dict[str, Any]]], b: tuple[str, list[dict[str, Any]]], tasks: int = 6
) -> Trajectories:
    """Two runs per task and arm; an arm is its system prompt and its tools."""
    records = [
        chat(f"do {task}", system, tools) for task in range(tasks) for system, tools in (a, a, b, b)
    ]
    return loaders.from_messages(
        records,
        task_id=[str(n // 4) for n in range(4 * tasks)],
        arm=["x", "x", "y", "y"] * tasks,
        trial=["1", "2"] * (2 * tasks),
    )


def row_of(result: Any, axis: str, item: str | None = None) -> dict[str, Any]:
    found = result.frame.filter(pl.col("axis") == axis)
    if item is not None:
        found = found.filter(pl.col("item") == item)
    return found.row(0, named=True)


# ---------------------------------------------------------------------- axes


def test_axes_counts_values_and_never_takes_unknown_for_the_same() -> None:
    runs = made(
        [
            {"toolset": "A", "system_prompt": "S", "environment": None},
            {"toolset": "A", "system_prompt": None, "environment": None},
            {"toolset": "B", "system_prompt": "S", "environment": None},
            {"toolset": "C", "parent_id": "r0"},
            {"toolset": "A", "task_id": "alone", "system_prompt": "S"},
            {"toolset": "A", "task_id": None},
        ]
    )
    result = axes.axes(runs)
    of_t = result.frame.filter(pl.col("task_id") == "t")
    assert of_t["axis"].to_list() == list(AXES)
    assert of_t["reading"].to_list()[:4] == ["differ", "same where known", "unknown", "unknown"]
    assert of_t["values"].to_list() == [2, 1, None, None, None]
    assert of_t["unknown"].to_list() == [0, 1, 3, 3, 3]
    assert of_t["sizes"].to_list()[0] == [2, 1]
    alone = result.frame.filter(pl.col("task_id") == "alone")
    assert alone["reading"].to_list()[:3] == ["one run", "one run", "unknown"]
    assert any(text.startswith("1 runs without task_id") for text in result.warnings)
    assert result.runs("B", task_id="t", axis="toolset").ids == ["r2"]
    assert result.runs("unknown", task_id="t", axis="system_prompt").ids == ["r1"]
    assert "Of 1 tasks with several runs, toolset: differ in 1" in result.headline


def test_axes_warns_of_one_task_id_in_two_benchmarks() -> None:
    runs = made([{"benchmark": "one", "toolset": "A"}, {"benchmark": "two", "toolset": "B"}])
    assert any("several benchmarks" in text for text in axes.axes(runs).warnings)
    apart = axes.axes(runs, by=("benchmark", "task_id"))
    assert apart.frame.filter(pl.col("axis") == "toolset")["reading"].to_list() == ["one run"] * 2
    assert not any("several benchmarks" in text for text in apart.warnings)


def test_a_fork_is_another_answer_to_the_same_question_with_the_same_past() -> None:
    answers = {
        0: [("1", "one"), ("2", "two"), ("3", "three")],
        1: [("1", "one"), ("2", "broken"), ("3", "other")],  # forks from 0 at its second call
        2: [("2", "elsewhere"), ("1", "one")],  # asks for other things: no fork
        3: [("1", "one"), ("2", None), ("3", "x")],  # from an unknown response on, nothing is known
    }
    runs = made([{"tool_responses": str(n)} for n in range(4)], answers)
    asked = same_calls(runs)
    assert asked.group_by("run").len().sort("run")["len"].to_list() == [3, 3, 2, 1]
    second = asked.filter(pl.col("place") == 1, pl.col("run") < 2)
    assert (second["asked"].n_unique(), second["answer"].n_unique()) == (1, 2)
    third = asked.filter(pl.col("place") == 2)
    assert third["asked"].n_unique() == 2, "their pasts differ"
    row = axes.axes(runs).frame.filter(pl.col("axis") == "tool_responses").row(0, named=True)
    assert (row["values"], row["forked"]) == (4, 2)


# ---------------------------------------------------------------------- diff


def test_diff_names_planted_confounds() -> None:
    same = [tool("read"), tool("write")]
    a = (
        "be brief\nbe kind\nbe <b>bold</b>",
        [*same, tool("search"), tool("book"), tool("cancel"), tool("gone"), tool("count", n={"type": "integer"})],
    )  # fmt: skip
    b = (
        "be brief\nbe exact\nbe <b>bold</b>",
        [*same, *(tool(name, "now <i>otherwise</i>") for name in ("search", "book", "cancel")), tool("new"),
         tool("count", n={"type": "number"}, unit={"type": "string", "enum": ["kg", "lb"]})],
    )  # fmt: skip
    result = axes.diff(two_arms(a, b))
    assert "three tool descriptions: book, cancel, search" in result.headline
    assert "one tool added: new" in result.headline
    assert "one tool removed: gone" in result.headline
    assert "one tool's parameters: count" in result.headline
    assert "the system prompt in 6 of 6 tasks (33 % of lines differ)" in result.headline
    assert "They agree on user prompt" in result.headline
    count = row_of(result, "toolset", "count")
    assert count["detail"] == "parameters: properties/n/type, +properties/unit"
    assert row_of(result, "toolset", "gone")["value_b"] == "not offered"
    assert not result.frame["item"].is_in(["read", "write"]).any()
    system = row_of(result, "system_prompt")
    assert (system["value_a"], system["value_b"]) == ("be kind", "be exact")
    assert (system["between"], system["within_a"], system["verdict"]) == (1.0, 0.0, "differ")
    assert len(result.runs("y", axis="toolset", item="search")) == 12
    html = result._repr_html_()
    assert "<i>otherwise" not in html
    assert "<b>bold" not in html


def test_names_from_logs_are_escaped_in_the_headline() -> None:
    evil = "<script>x</script>\u202e\n"
    result = axes.diff(two_arms(("s", [tool("read")]), ("s", [tool("read"), tool(evil)])))
    assert "\u202e" not in result.headline
    assert "\n" not in result.headline
    assert "<script>" not in result._repr_html_()


def test_diff_of_the_same_arm_twice_finds_nothing() -> None:
    same = ("be brief", [tool("read")])
    result = axes.diff(two_arms(same, same))
    assert set(result.frame["verdict"]) <= {"same", "unknown"}
    assert "No confound" in result.headline
    assert "also differ" not in result.headline


def test_an_axis_unknown_in_one_arm_is_no_agreement() -> None:
    known = {"toolset": "T", "system_prompt": "S", "success": True}
    runs = made([{**known, "arm": arm, "task_id": str(n)} for n in range(4) for arm in ("x", "y")])
    table = runs.trajectories.with_columns(
        pl.when(pl.col("arm") == "x").then("toolset").alias("toolset")
    ).collect()
    blank = {name: pl.DataFrame(schema=schema) for name, schema in TABLES.items()}
    runs = Trajectories.from_frames({**blank, "trajectories": table})
    result = axes.diff(runs)
    assert row_of(result, "toolset")["verdict"] == "unknown"
    assert row_of(result, "system_prompt")["verdict"] == "same"
    assert any(text.startswith("toolset: unknown in at least one arm") for text in result.warnings)
    assert "They agree on system prompt" in result.headline
    assert "in what the logs tell" in result.headline


def test_what_varies_within_arms_is_no_difference_of_the_arms() -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for task in range(60):
        for arm in ("x", "x", "x", "y", "y", "y"):
            drawn, skewed = rng.integers(3), rng.random() < (0.8 if arm == "x" else 0.1)
            rows.append(
                {
                    "arm": arm,
                    "task_id": str(task),
                    "user_prompt": f"{task}-{drawn}",
                    "system_prompt": "long" if skewed else "short",
                    "environment": "odd" if arm == "y" and task < 3 else "even",
                }
            )
    result = axes.diff(made(rows))
    frame = result.frame
    assert "within them: user prompt (first prompt)." in result.headline
    verdicts = {
        axis: frame.filter(pl.col("axis") == axis)["verdict"][0]
        for axis in ("user_prompt", "system_prompt", "environment")
    }
    assert verdicts == {"user_prompt": "vary", "system_prompt": "differ", "environment": "differ"}
    user = frame.filter(pl.col("axis") == "user_prompt").row(0, named=True)
    assert user["between"] == pytest.approx(2 / 3, abs=0.06)
    assert user["within_a"] == pytest.approx(2 / 3, abs=0.08)


def test_random_values_are_called_a_difference_of_the_arms_one_time_in_forty() -> None:
    def verdict(seed: int) -> str:
        rng = np.random.default_rng(seed)
        units = np.repeat(np.arange(30), 4)
        facts = pl.DataFrame(
            {
                "item": "x",
                "unit": units,
                "cluster": units,
                "side": ["a", "a", "b", "b"] * 30,
                "value": rng.integers(2, size=120).astype(str),
                "n": 1,
            }
        )
        return agreement(facts, ["item"], "a", "b")[0]["verdict"].item()

    found = [verdict(seed) for seed in range(200)]
    assert set(found) == {"vary", "differ"}
    assert found.count("differ") / 200 < 0.05  # a lower limit of 95 % lies above 0 in 2.5 %


def test_settings_and_versions_are_facts_of_the_environment() -> None:
    def run(arm: str, task: int) -> dict[str, Any]:
        is_x = arm == "x"
        params = {"temperature": 0 if is_x else 1, "top_p": 1, "reasoning_history": "all" if is_x else "none"}  # fmt: skip
        return {
            "arm": arm,
            "task_id": str(task),
            "model": "m",
            "framework_version": "1" if is_x else "2",
            "params": json.dumps(params if is_x else {**params, "seed": 7}),
            "metadata": json.dumps({"environment": {"sandbox": "docker" if is_x else "none"}}),
        }

    result = axes.diff(made([run(arm, task) for task in range(5) for arm in ("x", "y")]))
    assert "framework_version (1 against 2)" in result.headline
    assert "params/temperature (0 against 1)" in result.headline
    assert "params/seed (not set against 7)" in result.headline
    assert "metadata/environment/sandbox (docker against none)" in result.headline
    assert row_of(result, "history", "params/reasoning_history")["verdict"] == "differ"
    assert "reasoning_history" not in result.headline, "what was meant is no confound"
    assert row_of(result, "environment", "params/top_p")["verdict"] == "same"


def test_settings_that_are_no_json_are_compared_as_text() -> None:
    rows = [
        {
            "arm": arm,
            "task_id": str(n),
            "params": "no json" if arm == "x" else "[" * 3000,
            "metadata": json.dumps({"environment": "docker" if arm == "x" else "podman"}),
        }
        for n in range(3)
        for arm in ("x", "y")
    ]
    result = axes.diff(made(rows))
    assert row_of(result, "environment", "params")["verdict"] == "differ"
    assert "metadata/environment (docker against podman)" in result.headline
    broken = axes.diff(made([{**row, "metadata": "{not json"} for row in rows]))
    assert row_of(broken, "environment", "params")["value_a"] == "no json"


def test_arms_without_a_common_task_are_compared_with_a_warning() -> None:
    runs = made(
        [
            {"arm": arm, "task_id": f"{arm}{n}", "model": arm, "toolset": "T"}
            for n in range(6)
            for arm in ("x", "y")
        ]
    )
    result = axes.diff(runs)
    assert any("share no task" in text for text in result.warnings)
    assert row_of(result, "environment", "model")["verdict"] == "differ"
    assert row_of(result, "toolset")["verdict"] == "same"


def test_diff_says_what_it_needs() -> None:
    runs = made([{"arm": arm} for arm in ("x", "y", "z")])
    with pytest.raises(DerailError, match="x, y, z"):
        axes.diff(runs)
    with pytest.raises(DerailError, match="no value 'w'"):
        axes.diff(runs, a="w")
    with pytest.raises(DerailError, match="two values"):
        axes.diff(runs, a="x", b="x")
    assert axes.diff(runs, a="z", b="x").frame.select("a", "b").row(0) == ("z", "x")
    with pytest.raises(DerailError, match="two values"):
        axes.diff(runs.filter(arm="x"))


# ---------------------------------------------------------------------- surface


def test_surface_recovers_what_was_planted_and_finds_nothing_else() -> None:
    effect, truth = 0.2, 0.2**2 / 0.25  # E = .04, S = .21
    explained: list[float] = []
    spread: list[float] = []
    null: list[float] = []
    covered = covered_null = 0
    for seed in range(60):
        frame = axes.surface(toolsets(seed, effect)).frame
        tools, prompt = frame.row(0, named=True), frame.row(1, named=True)
        explained.append(tools["explained"])
        spread.append(tools["spread"])
        null.append(prompt["explained"])
        covered += tools["low"] <= truth <= tools["high"]
        covered_null += prompt["low"] <= 0 <= prompt["high"]
    assert np.mean(explained) == pytest.approx(truth, abs=0.012)
    assert np.mean(spread) == pytest.approx(2 * effect, abs=0.03)
    assert np.mean(null) == pytest.approx(0, abs=0.01)
    assert min(null) < 0 < max(null), "unbiased, so below zero as often as above"
    assert covered >= 52
    assert covered_null >= 52


def test_surface_names_the_worst_value_and_its_runs() -> None:
    result = axes.surface(toolsets(1, 0.2))
    row = row_of(result, "toolset")
    assert (row["worst"], row["tested"], row["values"]) == ("B", 2, 2)
    assert row["worst_effect"] == pytest.approx(-0.2, abs=0.06)
    assert row["worst_p"] < 0.001
    assert (row["runs"], row["replicated_runs"], row["replicated_tasks"]) == (640, 640, 40)
    worst = result.runs("worst", axis="toolset").trajectories.collect()
    assert set(worst["toolset"]) == {"B"}
    assert any("smaller" in text for text in result.warnings)
    assert row_of(result, "environment")["refused"] == "no two runs of a task differ in it"
    assert "toolset explains" in result.headline.lower()


def test_effects_that_differ_by_task_count_though_they_cancel_out() -> None:
    rng = np.random.default_rng(3)
    rows = [
        {
            "task_id": str(task),
            "toolset": toolset,
            "success": bool(rng.random() < (0.9 if (task + (toolset == "A")) % 2 else 0.1)),
        }
        for task in range(40)
        for toolset in "AABB"
    ]
    row = row_of(axes.surface(made(rows)), "toolset")
    assert row["explained"] == pytest.approx(0.64, abs=0.15)
    assert row["worst_effect"] == pytest.approx(0, abs=0.12)


def test_an_axis_is_compared_only_where_the_others_agree() -> None:
    rows = [
        {
            "task_id": str(task),
            "toolset": value,
            "system_prompt": value,
            "model": "m" if task % 2 else None,
            "success": value == "A",
        }
        for task in range(10)
        for value in "AABB"
    ]
    result = axes.surface(made(rows))
    assert row_of(result, "toolset")["refused"].endswith("also differ in system_prompt")
    free = axes.surface(made(rows), given=())
    assert row_of(free, "toolset")["explained"] == 1.0
    by_model = axes.surface(made([{**row, "model": row["toolset"]} for row in rows]), given=())
    assert row_of(by_model, "toolset")["refused"].endswith("also differ in model")


def test_runs_with_an_unknown_value_are_left_out_and_counted() -> None:
    rows = [
        {
            "task_id": str(task),
            "toolset": value,
            "environment": None,
            "success": task % 3 > 0,
        }
        for task in range(10)
        for value in ("A", "A", "B", "B", None, None)
    ]
    result = axes.surface(made(rows))
    row = row_of(result, "toolset")
    assert (row["runs"], row["unknown"], row["values"]) == (40, 20, 2)
    assert row_of(result, "environment")["refused"] == "the logs do not tell it"
    assert any(text.startswith("environment: unknown in 60 of 60") for text in result.warnings)
    # In each task both values fare alike, so nothing varies within a setting.
    assert "does not vary" in row["refused"]


def test_small_cells_are_refused_with_the_reason() -> None:
    few = toolsets(0, 0.2, tasks=4)
    assert row_of(axes.surface(few), "toolset")["refused"].startswith("64 runs of 4 tasks")
    single = toolsets(0, 0.2, each=1).filter(system_prompt="S1")
    row = row_of(axes.surface(single), "toolset")
    assert row["refused"] == "in no setting do two values have two runs each"
    assert row["explained"] is None
    assert row["worst"] == "B", "an effect that all tasks share needs no second run per task"
    with pytest.raises(DerailError, match="no run has a known"):
        axes.surface(made([{"toolset": "A"}]))
    with pytest.raises(DerailError, match="no axis that can be given"):
        axes.surface(few, given=["tool_responses"])
    with pytest.raises(DerailError, match="yes or no, or a number"):
        axes.surface(few, outcome="model")


def test_a_response_is_weighed_where_runs_had_done_the_same_before() -> None:
    rng = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    answers: dict[int, list[tuple[str, str | None]]] = {}
    for task in range(60):
        for n in range(6):
            is_broken = n % 2 == 0
            success = bool(rng.random() < (0.3 if is_broken else 0.7))
            later = [
                (f"later {k}", f"{task} {k} {rng.random()}") for k in range(int(rng.integers(4)))
            ]
            answers[len(rows)] = [
                ("first", f"fine {task}"),
                ("second", "broken" if is_broken else f"value {task}"),
                *later,
            ]
            rows.append({"task_id": str(task), "success": success, "toolset": "T"})
    result = axes.surface(made(rows, answers))
    row = row_of(result, "tool_responses")
    assert row["low"] < 0.16 < row["high"]
    assert row["low"] > 0
    assert row["worst_text"] == "broken"
    assert row["worst_effect"] == pytest.approx(-0.2, abs=0.07)
    assert (row["runs"], row["tasks"], row["tested"]) == (360, 60, 1)


def test_any_number_may_be_the_outcome() -> None:
    rows = [
        {"task_id": str(task), "toolset": value, "score": score + task}
        for task in range(8)
        for value, score in (("A", 1.0), ("A", 2.0), ("B", 5.0), ("B", 6.0))
    ]
    row = row_of(axes.surface(made(rows), outcome="score"), "toolset")
    # E = (16 - (.5 + .5) / 2) / 2 ... by hand: means 1.5 and 5.5, each variance .5 from two runs.
    between = (5.5 - 1.5) ** 2 / 2 - 0.5 / 2
    assert row["explained"] == pytest.approx((between / 2) / (between / 2 + 0.5))
    assert row["spread"] == pytest.approx((2 * between) ** 0.5)
    assert row["worst_effect"] == pytest.approx(-2)


# ---------------------------------------------------------------------- words


def test_texts_differ_by_lines() -> None:
    assert line_difference("a\nb\nc", "c\na\nb").is_reordered
    assert line_difference("a\na", "a").share == pytest.approx(1 / 3)
    assert line_difference("", "new").first_b == "new"
    assert str(line_difference("a\nb", "a\nc")) == "50 % of lines differ"


def test_schemas_differ_by_paths_whatever_they_hold() -> None:
    assert schema_changes('{"a": {"b": 1}}', '{"a": {"b": "1"}}') == ["a/b"]
    assert schema_changes('{"x": 1}', '{"x": 1, "p": {"q": {"r": 1, "s": 2}}}') == ["+p"]
    assert schema_changes('{"x": 1, "p": [1, 2]}', '{"x": 1, "p": [1]}') == ["-p/1"]
    assert schema_changes("no json", "{}") == ["(no JSON that could be compared)"]
    assert schema_changes(None, None) == []
    deep = "[" * 5000 + "]" * 5000
    assert isinstance(schema_changes(deep, "{}"), list)
    assert json_leaves("docker") == {"": "docker"}
    assert json_leaves(None) == {}
    assert json_leaves('"only"') == {"": "only"}


def test_what_is_shown_is_one_short_line() -> None:
    assert shown(None) == "–"
    assert shown("a" * 61) == "a" * 59 + "…"
    assert shown("\x1b[31m\u2066") == "\\x1b[31m\\u2066"


# ---------------------------------------------------------------------- the study and real logs


@pytest.fixture(scope="module")
def study() -> Trajectories:
    return loaders.load(STUDY)


def test_the_studys_arms_differ_in_what_was_meant_only(study: Trajectories) -> None:
    result = axes.diff(study, a="all", b="none")
    for axis in ("toolset", "system_prompt", "user_prompt"):
        assert row_of(result, axis)["verdict"] == "same"
        assert row_of(result, axis)["units"] == 60
    environment = result.frame.filter(pl.col("axis") == "environment")
    assert set(environment.filter(pl.col("item") != "all facts")["verdict"]) == {"same"}
    assert row_of(result, "environment", "all facts")["verdict"] == "unknown"
    sent = row_of(result, "history", "thinking sent back")
    assert (sent["value_a"], sent["value_b"], sent["verdict"]) == ("all", "none", "differ")
    assert row_of(result, "tool_responses", "same calls")["verdict"] == "vary"
    assert "also differ" not in result.headline
    assert "all sent all back" in result.headline
    assert "none sent none back" in result.headline


def test_the_studys_faults_are_planted_by_trial_not_by_arm(study: Trajectories) -> None:
    """Perturbations are seeded by task and trial: paired by both, the same calls are answered alike."""
    result = axes.diff(study, a="all", b="none", pair=("task_id", "trial"))
    calls = row_of(result, "tool_responses", "same calls")
    assert calls["verdict"] == "same"
    assert calls["units"] > 300


def test_every_fork_of_the_study_is_a_planted_fault(
    study: Trajectories, made: Generator, truth: dict[str, Any]
) -> None:
    faulty = {
        (run["policy"], run["task_id"], str(run["trial"]))
        for run in made.truth.study_runs(truth)
        if run["struck"] and (run["model"], run["scaffold"]) == ("planner-1", "inspect")
    }
    asked = same_calls(study).join(
        study.trajectories.select("run", "arm", "task_id", "trial").collect(), on="run"
    )
    forked = asked.filter(pl.col("answer").n_unique().over("task_id", "asked") > 1)
    groups = forked.group_by("task_id", "asked").agg(
        pl.struct("arm", "task_id", "trial").alias("runs")
    )
    assert groups.height > 30
    for runs in groups["runs"]:
        assert any(tuple(run.values()) in faulty for run in runs)


def test_bfcls_two_builds_answer_the_same_calls_alike(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "bfcl" / "results" / "{arm}" / "result")
    result = axes.diff(runs)
    for axis in ("toolset", "system_prompt"):
        assert row_of(result, axis)["verdict"] == "unknown"
    for axis in ("user_prompt", "environment"):
        assert row_of(result, axis)["verdict"] == "same"
        assert row_of(result, axis)["units"] == 200
    calls = row_of(result, "tool_responses", "same calls")
    assert (calls["verdict"], calls["units_differ"]) == ("same", 0)
    assert calls["units"] > 500
    assert "Unknown: toolset, system prompt" in result.headline
    per_task = axes.axes(runs).frame.filter(pl.col("axis") == "tool_responses")
    assert per_task["forked"].sum() == 0
    assert per_task.filter(pl.col("reading") == "differ").height > 100, "the agent asks otherwise"


def test_agentdojos_detector_arm_gets_other_answers_to_the_same_calls(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "agentdojo" / "runs").filter(
        pl.col("task_id").str.starts_with("banking/user_task"),
        pl.col("arm").str.ends_with("/important_instructions"),
    )
    plain = "gpt-4o-2024-05-13"
    result = axes.diff(
        runs, by="model", a=plain, b=f"{plain}-transformers_pi_detector", pair=("task_id", "trial")
    )
    calls = row_of(result, "tool_responses", "same calls")
    assert calls["verdict"] == "differ"
    assert calls["between"] > 0.7
    assert "responses to the same calls" in result.headline
    assert row_of(result, "system_prompt")["verdict"] == "same"
    assert row_of(result, "user_prompt")["verdict"] == "same"


def test_taus_user_prompts_differ_as_their_user_is_simulated(real_logs: Path) -> None:
    result = axes.diff(
        loaders.load(real_logs / "tau2"), by="model", a="gpt-4.1", b="claude-sonnet-4-5"
    )
    user = row_of(result, "user_prompt")
    assert (user["verdict"], user["units"], user["units_differ"]) == ("differ", 20, 13)
    assert row_of(result, "environment", "framework_version")["units_differ"] == 20
    assert any("two runs of one arm" in text for text in result.warnings)


def test_mcpmark_tells_the_environment_only(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "mcpmark")
    readings = axes.axes(runs).frame.group_by("axis").agg(pl.col("reading").unique())
    assert dict(readings.iter_rows()) == {
        axis: ["same" if axis == "environment" else "unknown"] for axis in AXES
    }
    refused = axes.surface(runs).frame["refused"]
    assert refused.null_count() == 0


# ---------------------------------------------------------------------- charts


def test_charts_draw_what_the_frames_say(study: Trajectories) -> None:
    drawn = [
        axes.axes(study),
        axes.diff(study, a="all", b="none"),
        axes.surface(toolsets(0, 0.2)),
    ]
    for result in drawn:
        assert json.dumps(result.chart().to_dict())
    nothing = axes.surface(made([{"toolset": "A", "success": True}] * 3))
    with pytest.raises(DerailError, match="every axis was refused"):
        nothing.chart()
    with pytest.raises(DerailError, match="no group has two runs"):
        axes.axes(made([{}])).chart()
