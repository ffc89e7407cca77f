"""BrowserGym rows and summaries against figures counted from the raw files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories


@pytest.fixture(scope="module")
def folder(real_logs: Path) -> Path:
    return real_logs / "browsergym"


@pytest.fixture(scope="module")
def calls(folder: Path) -> Trajectories:
    return loaders.load(folder / "nnetnav-live_rows.json")


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "nnetnav-live_rows.json").read_text())


# ---------------------------------------------------------------------- real files


def test_rows_of_one_task_are_the_calls_of_one_run(
    calls: Trajectories, rows: list[dict[str, Any]]
) -> None:
    table = calls.trajectories.collect()
    counted = Counter(row["task_name"] for row in rows)
    assert dict(table.select("task_id", "steps").iter_rows()) == counted
    assert (table.height, len(rows)) == (5, 30)
    assert table["unanswered_calls"].to_list() == [1] * 5, "the last action ends the run"
    tokens = [number for text in table["metadata"] for number in json.loads(text)["n_tokens"]]
    assert tokens == [row["n_tokens"] for row in rows]


def test_pages_replies_and_actions_are_those_of_the_rows(
    calls: Trajectories, rows: list[dict[str, Any]]
) -> None:
    events = calls.events.collect()
    said = [[message["content"] for message in row["messages"]] for row in rows]
    pages = events.filter(pl.col("kind").is_in(["user", "tool_result"]))
    assert pages["text"].to_list() == [page for _, page, _ in said]
    assert events.filter(pl.col("kind") == "message")["text"].to_list() == [s[2] for s in said]
    assert events.filter(pl.col("kind") == "system").height == 5
    told = events.filter(pl.col("kind") == "tool_call")
    expected = [reply.split("```")[-2].strip() for _, _, reply in said]
    assert [json.loads(text)["action"] for text in told["arguments"]] == expected
    assert Counter(told["tool"]) == Counter(action.split()[0] for action in expected)
    for event in events.gather_every(9).iter_rows(named=True):
        found = calls.raw(event["trajectory_id"], event["seq"])
        assert found == event["text"] or event["tool"] in found


def test_every_call_saw_the_system_prompt_and_its_own_page_alone(calls: Trajectories) -> None:
    steps = calls.steps.filter(pl.col("run") == 0).collect()
    assert set(steps["evidence"]) == {"request"}
    assert steps["history_edit"].to_list() == ["none", "truncated"]
    kinds = calls.events.filter(pl.col("run") == 0).collect()["kind"].to_list()
    shown = [[kinds[i] for r in c for i in range(r["start"], r["stop"])] for c in steps["context"]]
    assert shown == [["system", "user"], ["system", "tool_result"]]


def test_states_and_actions_of_webarena(folder: Path) -> None:
    runs = loaders.load(folder / "webarena_successful_rows.json")
    raw = json.loads((folder / "webarena_successful_rows.json").read_text())
    items = [item for row in raw for item in row["trajectory"]]
    actions = [item["action"] for item in items if "action" in item]
    events = runs.events.collect()
    kinds = Counter(events["kind"])
    assert kinds["tool_call"] == len(actions) == 4
    assert kinds["tool_result"] + kinds["other"] == len(items) - len(actions)
    assert kinds["other"] == kinds["user"] == len(raw) == 3
    assert kinds["thinking"] == sum(bool(i["metadata"]["cot"]) for i in items if "action" in i)
    assert events["tool"].drop_nulls().unique().sort().to_list() == ["click", "stop"]
    clicked = events.filter(pl.col("kind") == "tool_call", pl.col("tool") == "click")
    assert json.loads(clicked["arguments"][0])["element_id"] == "1121"
    table = runs.trajectories.collect()
    assert table["model"].to_list() == [row["source"] for row in raw]
    assert table["outcome"].to_list() == ["unknown"] * 3, "only the file's name says it succeeded"


def test_a_summary_gives_outcome_tokens_and_cost(folder: Path) -> None:
    runs = loaders.load(folder / "agentlab_summary_info.json")
    raw = json.loads((folder / "agentlab_summary_info.json").read_text())
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["success"], row["score"]) == ("error", False, 0.0)
    assert row["input_tokens"] == raw["stats.cum_openai_prompt_tokens"] == 16260
    assert row["output_tokens"] == raw["stats.cum_openai_completion_tokens"] == 762
    assert row["cost_usd"] == raw["stats.cum_openai_total_cost"]
    assert runs.raw(runs.ids[0], 0) == row["end_reason"] == raw["err_msg"]


# ---------------------------------------------------------------------- variants made here


def write(file: Path, content: Any) -> Trajectories:
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return loaders.load(file)


def call(task: str, previous: int, reply: Any = "```stop [x]```") -> dict[str, Any]:
    done = "\n".join(f"{number + 1}: act" for number in range(previous + 1))
    messages = [
        {"role": "system", "content": "rules"},
        {"role": "user", "content": f"page {previous}\nPREVIOUS ACTIONS:\n{done}"},
        {"role": "assistant", "content": reply},
    ]
    return {"dataset": "my_NNetNav", "task_name": task, "messages": messages}


def test_what_no_column_has_is_in_the_metadata(tmp_path: Path) -> None:
    page = {"axtree": "[1] link", "url": "http://a.b/c", "screenshot_path": "shots/0.png"}
    action = {"action_name": "stop", "action_type": 17, "answer": "forty-two"}
    items = [page, {"metadata": {"cot": "I know it.", "cost": 0.25}, "action": action}]
    row = {"intent": "the answer?", "trajectory": items, "source": "m", "site": "admin pages"}
    write(tmp_path / "states.json", [row])
    write(tmp_path / "calls.json", [{**call("a", 0), "site": "some other pages", "n_tokens": 7}])
    summary = {"n_steps": 1, "cum_reward": 0, "terminated": True, "truncated": False}
    write(tmp_path / "summary_info.json", {**summary, "stats.max_step_elapsed": 1.25})
    table = loaders.load(tmp_path).trajectories.collect()
    facts = {
        Path(name).stem: json.loads(text)
        for name, text in table.select("source", "metadata").rows()
    }
    assert facts["states"]["site"] == "admin pages"
    assert facts["states"]["items"] == {
        "0": {"url": "http://a.b/c", "screenshot_path": "shots/0.png"},
        "1": {"metadata": {"cost": 0.25}},
    }
    assert facts["calls"]["rows"] == {"0": {"site": "some other pages"}}
    assert facts["summary_info"]["stats.max_step_elapsed"] == 1.25
    assert loaders.coverage(tmp_path, progress=False).lost.is_empty()


def test_a_task_that_begins_again_is_another_run(tmp_path: Path) -> None:
    runs = write(tmp_path / "d.json", [call("a", 0), call("a", 1), call("a", 0), call("b", 0)])
    assert runs.trajectories.collect()["steps"].to_list() == [2, 1, 1]


def test_a_reply_without_an_action_is_a_message(tmp_path: Path) -> None:
    runs = write(tmp_path / "d.json", [call("a", 0, "no idea"), call("a", 1, "``` ```")])
    kinds = "system user message user message"
    assert runs.events.collect()["kind"].to_list() == kinds.split()


@pytest.mark.parametrize(
    ("reward", "truncated", "error", "expected"),
    [
        (1, True, None, ("success", True, "truncated")),
        (0, True, None, ("limit", False, "truncated")),
        (0, False, None, ("failure", False, None)),
        (0.5, False, "boom", ("error", None, "boom")),
    ],
)
def test_summaries_take_their_labels_from_the_folder(
    tmp_path: Path, reward: Any, truncated: bool, error: Any, expected: tuple[Any, ...]
) -> None:
    name = "2024-08-01_10-20-52_Agent_x-gpt-4o_on_mini.task_64_e6d2d5"
    summary = {"n_steps": 1, "cum_reward": reward, "terminated": True, "truncated": truncated}
    runs = write(tmp_path / name / "summary_info.json", {**summary, "err_msg": error})
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["success"], row["end_reason"]) == expected
    assert (row["task_id"], row["trial"]) == ("mini.task", "64")
    assert json.loads(row["metadata"])["agent"] == "Agent_x-gpt-4o"


def test_hostile_and_cut_rows_cost_only_themselves(tmp_path: Path) -> None:
    odd = {"dataset": "nnetnav", "messages": [7, {"role": ["x"]}, {"role": "user", "content": 3}]}
    states = {"intent": {"a": 1}, "trajectory": [{"axtree": 1}, {"action": 2}, "none"], "source": 3}
    content = [call("kept", 0), odd, 7, states, {"trajectory": 5}, call("kept", 0)]
    runs = write(tmp_path / "d.json", content)
    assert runs.trajectories.collect()["task_id"].to_list() == ["kept", None, None, None, "kept"]
    assert runs.problems.collect()["position"].to_list() == ["/2", "/3/trajectory/2"]
    text = json.dumps([call("a", 0), call("b", 0, "lost")])
    cut = write(tmp_path / "d.json", text[: text.index("lost")])
    assert cut.trajectories.collect()["steps"].to_list() == [1, 1]
    assert "error" in cut.problems.collect()["severity"].to_list()
