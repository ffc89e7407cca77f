"""BFCL against its published accuracies and figures counted from the raw files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

MAIN, FIXES = "2025-11-12-main", "2025-11-12-harmony-fixes"
RESULT = "multi_turn/BFCL_v4_multi_turn_base_result.json"


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(f"{real_logs}/bfcl/results/{{arm}}/result/**/*.json")


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> dict[str, list[dict[str, Any]]]:
    folder = real_logs / "bfcl" / "results"
    return {
        arm: [
            json.loads(line)
            for line in (folder / arm / "result" / "openai_gpt-oss-120b" / RESULT)
            .read_text()
            .splitlines()
        ]
        for arm in (MAIN, FIXES)
    }


def by_arm(runs: Trajectories, value: pl.Expr) -> dict[str, Any]:
    return dict(runs.trajectories.group_by("arm").agg(value).collect().iter_rows())


def entries(rows: list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    steps = [
        step
        for row in rows
        for turn in row["inference_log"]
        if isinstance(turn, dict)
        for key, step in turn.items()
        if key.startswith("step_")
    ]
    return [entry for step in steps for entry in step if entry["role"] == role]


# ---------------------------------------------------------------------- real files


def test_accuracies_are_the_published_ones(runs: Trajectories) -> None:
    assert by_arm(runs, 100 * pl.col("success").mean()) == {MAIN: 50.0, FIXES: 62.0}
    assert by_arm(runs, pl.len()) == {MAIN: 200, FIXES: 200}
    assert runs.problems.collect().is_empty()


def test_39_tasks_are_gained_and_15_lost(runs: Trajectories) -> None:
    pairs = (
        runs.trajectories.select("task_id", "arm", "success")
        .collect()
        .pivot("arm", index="task_id", values="success")
    )
    assert pairs.filter(~pl.col(MAIN) & pl.col(FIXES)).height == 39
    assert pairs.filter(pl.col(MAIN) & ~pl.col(FIXES)).height == 15


def test_tokens_are_those_of_every_call(runs: Trajectories, raw: dict[str, Any]) -> None:
    assert by_arm(runs, pl.col("output_tokens").sum()) == {MAIN: 242_255, FIXES: 169_484}
    assert by_arm(runs, pl.col("input_tokens").sum()) == {
        arm: sum(sum(map(sum, row["input_token_count"])) for row in rows)
        for arm, rows in raw.items()
    }


def test_every_call_result_and_note_is_there(runs: Trajectories, raw: dict[str, Any]) -> None:
    rows = [*raw[MAIN], *raw[FIXES]]
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    replies = entries(rows, "assistant")
    assert runs.steps.collect().height == len(replies) == 4307
    assert kinds["tool_call"] == sum(len(entry["content"]) for entry in replies) == 2883
    assert kinds["tool_result"] == len(entries(rows, "tool")) == 2846
    assert kinds["user"] == sum(len(row["result"]) for row in rows) == 1463
    undecoded = [entry for entry in entries(rows, "handler_log") if "error" in entry]
    assert kinds["error"] == len(undecoded) == 25
    states = [len(part) for row in rows for part in row["inference_log"] if isinstance(part, list)]
    noted = runs.events.filter(pl.col("kind") == "other", pl.col("actor") == "environment")
    assert noted.collect().height == sum(states)


def test_calls_that_could_not_be_decoded_stay_unanswered(runs: Trajectories) -> None:
    assert by_arm(runs, pl.col("unanswered_calls").sum()) == {MAIN: 37, FIXES: 0}
    assert by_arm(runs, pl.col("orphan_results").sum()) == {MAIN: 0, FIXES: 0}
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results["call_seq"].null_count() == 0
    assert results["is_error"].null_count() == results.height
    calls = runs.events.filter(pl.col("kind") == "tool_call").select("run", "seq", "step", "tool")
    linked = results.join(
        calls.collect(), left_on=["run", "call_seq"], right_on=["run", "seq"], how="inner"
    )
    assert linked.height == results.height
    assert (linked["step"] == linked["step_right"]).all()
    assert (linked["tool"] == linked["tool_right"]).all()


def test_identical_calls_in_a_row_within_a_turn(runs: Trajectories) -> None:
    arms = dict(runs.trajectories.select("run", "arm").collect().iter_rows())
    repeats = dict.fromkeys((MAIN, FIXES), 0)
    stuck: dict[str, set[int]] = {MAIN: set(), FIXES: set()}
    row = runs.events.filter(pl.col("kind").is_in(["user", "tool_call"])).collect()
    streak = 0
    for before, now in pairwise(row.iter_rows(named=True)):
        same = all(before[key] == now[key] for key in ("run", "kind", "tool", "arguments"))
        if now["kind"] != "tool_call" or not same:
            streak = 0
            continue
        streak += 1
        repeats[arms[now["run"]]] += 1
        if streak >= 2:
            stuck[arms[now["run"]]].add(now["run"])
    assert repeats == {MAIN: 27, FIXES: 5}
    assert {arm: len(tasks) for arm, tasks in stuck.items()} == {MAIN: 4, FIXES: 0}


def test_the_first_task_on_main_lists_the_folder_13_times_in_a_row(runs: Trajectories) -> None:
    first = runs.filter(task_id="multi_turn_base_0", arm=MAIN)
    tools = first.events.filter(pl.col("kind") == "tool_call").collect()
    names = "".join("l" if tool == "ls" else "." for tool in tools["tool"])
    assert "l" * 13 in names
    assert "l" * 14 not in names


def test_thinking_is_not_logged_and_its_sending_unknown(runs: Trajectories) -> None:
    steps = runs.steps.collect()
    assert steps["thinking"].unique().to_list() == ["not_logged"]
    assert steps["thinking_sent"].null_count() == steps.height
    assert steps["evidence"].unique().to_list() == ["unknown"]


def test_labels_come_from_the_path(runs: Trajectories, real_logs: Path) -> None:
    table = runs.trajectories.collect()
    assert table["model"].unique().to_list() == ["openai_gpt-oss-120b"]
    assert table["benchmark"].unique().to_list() == ["bfcl"]
    assert table["format_version"].unique().to_list() == ["v4"]
    assert json.loads(table["metadata"][0])["category"] == "multi_turn_base"
    unlabelled = loaders.load(real_logs / "bfcl" / "results" / MAIN / "result")
    assert unlabelled.trajectories.collect()["arm"].null_count() == 200


def test_a_run_that_was_forced_to_quit_reached_a_limit(runs: Trajectories) -> None:
    limited = runs.trajectories.filter(pl.col("outcome") == "limit").collect()
    assert limited["task_id"].to_list() == ["multi_turn_base_10"] * 2
    assert limited["success"].to_list() == [False, False]
    assert limited["end_reason"].str.contains("20 steps").all()


def test_the_world_begins_the_same_in_both_arms(runs: Trajectories) -> None:
    worlds = runs.trajectories.group_by("task_id").agg(pl.col("environment").n_unique())
    assert worlds.collect()["environment"].unique().to_list() == [1]
    assert runs.trajectories.select("environment").unique().collect().height > 50


def test_positions_lead_to_the_raw_record(runs: Trajectories, raw: dict[str, Any]) -> None:
    one = runs.filter(task_id="multi_turn_base_3", arm=MAIN)
    turn = raw[MAIN][3]["inference_log"][1]
    seen: list[str] = []
    for event in one.events.head(4).collect().iter_rows(named=True):
        found = one.raw(one.ids[0], event["seq"])
        seen.append(event["kind"])
        if event["kind"] == "tool_call":
            assert found == turn["step_0"][0]["content"][0]
        elif event["kind"] == "tool_result":
            assert found == event["text"] == turn["step_0"][2]["content"]
        elif event["kind"] == "user":
            assert found == event["text"] == turn["begin_of_turn_query"][0]["content"]
    assert seen == ["other", "user", "tool_call", "tool_result"]
    assert one.steps.collect()["source_pos"][0] == "L4/inference_log/1/step_0"


# ---------------------------------------------------------------------- variants made here

Write = Callable[..., Path]
NO_OBJECTS: list[Any] = ["text", None, 5]


def task(name: str, *steps: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    turn = {"begin_of_turn_query": [{"role": "user", "content": "go"}]}
    turn.update({f"step_{index}": step for index, step in enumerate(steps)})
    counts = [[7] * len(steps)]
    return {
        "id": name,
        "result": [],
        "inference_log": [turn],
        "input_token_count": counts,
        "output_token_count": counts,
        **more,
    }


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def note(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "handler_log", "content": content, **more}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(rows: list[Any], score: list[Any] | None = None) -> Path:
        for folder, kind, lines in (("result", "result", rows), ("score", "score", score)):
            if lines is not None:
                file = tmp_path / folder / "a_model" / f"BFCL_v3_made_{kind}.json"
                file.parent.mkdir(parents=True)
                file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path

    return write


def counts(total: int, correct: int) -> dict[str, Any]:
    return {"accuracy": correct / total, "correct_count": correct, "total_count": total}


def success_of(runs: Trajectories) -> dict[str, bool | None]:
    return dict(runs.trajectories.select("task_id", "success").collect().iter_rows())


def reasons(runs: Trajectories) -> list[str]:
    return runs.problems.collect()["reason"].to_list()


def test_without_a_score_file_outcomes_are_unknown_and_it_says_so(write: Write) -> None:
    runs = loaders.load(write([task("a", [said([])])]))
    assert runs.trajectories.collect()["outcome"].to_list() == ["unknown"]
    assert reasons(runs) == ["no score file was found: outcomes are unknown"]


def test_tasks_that_the_score_file_does_not_list_have_passed(write: Write) -> None:
    failure = {"id": "b", "valid": False, "error_type": "t:wrong", "error": ["m"]}
    rows = [task(name, [said([])]) for name in "ab"]
    runs = loaders.load(write(rows, [counts(2, 1), failure]))
    assert success_of(runs) == {"a": True, "b": False}
    metadata = json.loads(runs.trajectories.collect()["metadata"][1])
    assert metadata["failure"] == {
        "error_type": "t:wrong",
        "error_message": '["m"]',
        "details": None,
    }
    assert runs.problems.collect().is_empty()


def test_what_a_failure_s_answer_should_have_been_is_kept_with_it(write: Write) -> None:
    differences = {"light": {"model": "off", "ground_truth": "on"}}
    failure = {
        "id": "a",
        "model_name": "another_name",
        "valid": False,
        "error": {
            "error_message": "the states differ",
            "error_type": "multi_turn:instance_state_mismatch",
            "details": {"differences": differences, "model_instance_state": {"light": "off"}},
        },
        "prompt": {"id": "a", "initial_config": {}, "involved_classes": ["Car"]},
        "model_result_raw": [],
        "possible_answer": [["light(on=True)"]],
        "inference_log": [],
    }
    folder = write([task("a", [said([])], latency=[[0.25]])], [counts(1, 0), failure])
    metadata = json.loads(loaders.load(folder).trajectories.collect()["metadata"][0])
    assert metadata["latencies"] == [[0.25]]
    assert metadata["failure"] == {
        "error_message": "the states differ",
        "error_type": "multi_turn:instance_state_mismatch",
        "details": {"differences": differences},
        "model_name": "another_name",
        "possible_answer": [["light(on=True)"]],
        "task": {"involved_classes": ["Car"]},
    }
    assert loaders.coverage(folder, progress=False).lost.is_empty()


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ([counts(2, 0), {"id": "b", "valid": False}], "does not list as many failures"),
        ([{"id": "b", "valid": False}], "does not list as many failures"),
        ([counts(3, 2), {"id": "b", "valid": False}], "counts 3 tasks, the result file holds 2"),
    ],
)
def test_a_score_file_that_does_not_fit_leaves_the_others_unknown(
    write: Write, score: list[Any], reason: str
) -> None:
    rows = [task(name, [said([])]) for name in "ab"]
    runs = loaders.load(write(rows, score) / "result")
    assert success_of(runs) == {"a": None, "b": False}
    assert any(reason in found for found in reasons(runs))


def test_a_score_file_alone_is_no_log_of_its_own(write: Write) -> None:
    folder = write([], [counts(1, 0), {"id": "b", "valid": False}])
    with pytest.raises(loaders.LoadError, match="belongs to a bfcl log"):
        loaders.load(folder / "score")


def test_result_and_score_are_found_in_an_archive(write: Write, tmp_path: Path) -> None:
    folder = write([task(name, [said([])]) for name in "ab"], [counts(2, 1), {"id": "b"}])
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in folder.rglob("*.json"):
            packed.write(file, file.relative_to(folder).as_posix())
    runs = loaders.load(archive)
    assert success_of(runs) == {"a": True, "b": False}
    assert runs.trajectories.collect()["model"].to_list() == ["a_model"] * 2


def test_a_failed_request_is_an_error_and_never_a_pass(write: Write) -> None:
    failed = {"id": "a", "result": "Error during inference: 400", "traceback": "File ..."}
    runs = loaders.load(write([failed], [counts(1, 1)]))
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["success"], row["steps"]) == ("error", None, 0)
    assert row["end_reason"] == "Error during inference: 400"
    assert runs.events.collect()["kind"].to_list() == ["error"]
    assert json.loads(row["metadata"])["traceback"] == "File ..."


def test_results_answer_their_own_step_where_an_earlier_call_was_never_run(write: Write) -> None:
    steps = [
        [said([{"ls": "{broken"}]), note("Error decoding", error="bad")],
        [
            said([{"ls": "{}"}, {"ls": '{"a": 1}'}]),
            note("Successfully decoded model response."),
            {"role": "tool", "content": "one"},
            {"role": "tool", "content": {"two": 2}},
        ],
    ]
    runs = loaders.load(write([task("a", *steps)], [counts(1, 1)]))
    events = runs.events.collect()
    results = events.filter(pl.col("kind") == "tool_result")
    answered = events[results["call_seq"].to_list()]
    assert answered["arguments"].to_list() == ["{}", '{"a": 1}']
    assert results["text"].to_list() == ["one", '{"two":2}']
    assert runs.trajectories.collect()["unanswered_calls"].to_list() == [1]
    error = events.filter(pl.col("kind") == "error").row(0, named=True)
    assert (error["text"], error["actor"], error["error_type"]) == (
        "bad",
        "harness",
        "decode_error",
    )


def test_calls_written_as_text_are_told_as_decoded(write: Write) -> None:
    steps = [
        [
            said("[ls(a=True), cd(folder='x')]"),
            note(
                "Successfully decoded model response.",
                model_response_decoded=["ls(a=True)", "cd(folder='x')"],
            ),
            {"role": "tool", "content": "listing"},
            {"role": "tool", "content": "moved"},
        ],
        [said("Done."), note("Error decoding the model response.", error="no call")],
    ]
    runs = loaders.load(write([task("a", *steps)], [counts(1, 1)]))
    events = runs.events.collect()
    calls = events.filter(pl.col("kind") == "tool_call")
    assert calls["tool"].to_list() == ["ls", "cd"]
    assert calls["arguments"].to_list() == ["a=True", "folder='x'"]
    assert runs.trajectories.collect()["unanswered_calls"].to_list() == [0]
    assert events.filter(pl.col("kind") == "error").is_empty()
    assert "Done." in events["text"].to_list()


def test_reasoning_is_kept_where_a_handler_logs_it(write: Write) -> None:
    steps = [[said([{"ls": "{}"}], reasoning_content="look first")], [said([])]]
    runs = loaders.load(write([task("a", *steps)], [counts(1, 1)]))
    steps_table = runs.steps.collect()
    assert steps_table["thinking"].to_list() == ["text", "absent"]
    assert steps_table["thinking_available"].to_list() == [0, 1]
    assert runs.raw(runs.ids[0], 1) == "look first"


def test_recorded_input_gives_the_tools(write: Write) -> None:
    tool = {"type": "function", "function": {"name": "ls", "description": "d", "parameters": {}}}
    request = {"role": "inference_input", "content": {"message": "[...]", "tools": [tool]}}
    runs = loaders.load(write([task("a", [request, said([])])], [counts(1, 1)]))
    assert runs.tools.collect()["name"].to_list() == ["ls"]
    assert runs.steps.collect()["toolset"].null_count() == 0
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata["first_request"] == {"message": "[...]"}


def test_single_turn_categories_have_one_call_and_no_question(write: Write) -> None:
    row = {
        "id": "simple_0",
        "result": [{"area": '{"base": 1}'}],
        "input_token_count": 11,
        "output_token_count": 5,
        "latency": 0.5,
        "reasoning_content": "use area",
    }
    text = {**row, "id": "irrelevance_0", "result": "I can't.", "reasoning_content": ""}
    runs = loaders.load(write([row, text], [counts(2, 2)]))
    assert runs.events.collect()["kind"].to_list() == ["thinking", "tool_call", "message"]
    assert runs.trajectories.collect()["input_tokens"].to_list() == [11, 11]
    assert json.loads(runs.trajectories.collect()["metadata"][0])["latency_s"] == 0.5


def test_nested_results_without_a_log_keep_their_calls(write: Write) -> None:
    row = task("a")
    row.update(result=[[[{"ls": "{}"}], "ok"]], output_token_count=[[1, 2]], inference_log=None)
    runs = loaders.load(write([row], [counts(1, 1)]))
    assert runs.events.collect()["kind"].to_list() == ["tool_call", "message"]
    assert runs.steps.collect()["output_tokens"].to_list() == [1, 2]
    assert runs.raw(runs.ids[0], 0) == {"ls": "{}"}


def test_broken_lines_and_hostile_types_cost_only_themselves(write: Write) -> None:
    hostile = [
        task("a", [said({"not": "a list"}), *NO_OBJECTS, {"role": 3}], latency={"x": 1}),
        task("b", [said([1, None, {"f": {"x": 1}}])], input_token_count="many"),
        {"id": ["c"], "result": {}, "inference_log": [{"begin_of_turn_query": 1, "step_x": 2}]},
        ["no", "object"],
        task("d", [said([])]),
    ]
    folder = write(hostile, [counts(6, 6)])
    file = next(folder.rglob("*_result.json"))
    file.write_text(file.read_text() + '{"id": "e", "result": [], "infer\n')
    runs = loaders.load(folder)
    assert runs.trajectories.collect()["task_id"].to_list() == ["a", "b", None, "d"]
    problems = runs.problems.filter(pl.col("severity") == "error").collect()
    assert problems["position"].to_list() == ["L4", "L6"]
    arguments = runs.events.filter(pl.col("kind") == "tool_call").collect()["arguments"]
    assert arguments.to_list() == ['{"x":1}']
