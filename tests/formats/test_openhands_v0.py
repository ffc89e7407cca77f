"""OpenHands V0 rows, lists and sessions against the raw files, and variants written here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

AT = "2026-01-02T03:04:05.000000"


def action(number: int, kind: str, source: str = "agent", **more: Any) -> dict[str, Any]:
    return {"id": number, "timestamp": AT, "source": source, "action": kind, "args": {}, **more}


def seen(number: int, cause: int | None, kind: str = "run", **more: Any) -> dict[str, Any]:
    event = {"id": number, "timestamp": AT, "source": "agent", "observation": kind, "content": "ok"}
    return {**event, "cause": cause, "extras": {}, **more}


def response(name: str, *calls: str, **message: Any) -> dict[str, Any]:
    tools = [{"id": c, "function": {"name": "bash", "arguments": f'{{"n":"{c}"}}'}} for c in calls]
    message = {"content": None, "tool_calls": tools, **message}
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    return {"id": name, "model": "m", "choices": [{"message": message}], "usage": usage}


def by(reply: dict[str, Any], call: str) -> dict[str, Any]:
    return {"tool_call_id": call, "function_name": "bash", "model_response": reply}


def load(path: Path, value: Any, name: str = "log.json") -> Trajectories:
    (path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return loaders.load(path / name, format="openhands_v0")


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def problems(runs: Trajectories) -> list[str | None]:
    return runs.problems.collect()["position"].to_list()


# ---------------------------------------------------------------------- real files


@pytest.fixture(scope="module")
def rows(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / "openhands_v0" / "output.jsonl")


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> list[dict[str, Any]]:
    path = real_logs / "openhands_v0" / "output.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_has_its_calls_results_and_tokens(
    rows: Trajectories, raw: list[dict[str, Any]]
) -> None:
    assert problems(rows) == []
    runs = rows.trajectories.collect().to_dicts()
    assert [run["task_id"] for run in runs] == [row["instance_id"] for row in raw]
    for run, record in zip(runs, raw, strict=True):
        history = record["history"]
        own = rows.filter(pl.col("trajectory_id") == run["trajectory_id"])
        metadata = [e["tool_call_metadata"] for e in history if "tool_call_metadata" in e]
        acted = [e for e in history if "tool_call_metadata" in e and "action" in e]
        assert run["steps"] == len({m["model_response"]["id"] for m in metadata})
        called, answered = events(own, "tool_call"), events(own, "tool_result")
        names = [e["tool_call_metadata"]["function_name"] for e in acted]
        assert called["tool"].to_list() == names
        assert answered.height == len(metadata) - len(acted)
        assert answered["call_id"].to_list() == [
            e["tool_call_metadata"]["tool_call_id"]
            for e in history
            if "observation" in e and "tool_call_metadata" in e
        ]
        assert (run["unanswered_calls"], run["orphan_results"]) == (len(acted) - answered.height, 0)
        total = record["metrics"]["accumulated_token_usage"]
        assert run["input_tokens"] == total["prompt_tokens"]
        assert run["output_tokens"] == total["completion_tokens"]
        assert own.tools.collect().height == len(history[0]["args"]["tools"])


def test_exit_codes_flags_and_errors_are_those_of_the_log(
    rows: Trajectories, raw: list[dict[str, Any]]
) -> None:
    observed = [e for row in raw for e in row["history"] if e.get("observation") == "run"]
    told = events(rows, "tool_result").filter(tool="execute_bash")
    assert told["is_error"].to_list() == [not e["success"] for e in observed]
    codes = [e["extras"]["metadata"]["exit_code"] for e in observed]
    assert told["exit_code"].to_list() == [None if code == -1 else code for code in codes]
    errors = [e for row in raw for e in row["history"] if e.get("observation") == "error"]
    assert events(rows, "error")["text"].to_list() == [e["content"] for e in errors]
    outcomes = rows.trajectories.collect()["outcome"].to_list()
    assert outcomes == ["limit" if row["error"] else "unknown" for row in raw]


def test_visible_thought_is_told_once_and_places_lead_back(
    rows: Trajectories, raw: list[dict[str, Any]]
) -> None:
    acted = [
        e for row in raw for e in row["history"] if "tool_call_metadata" in e and "action" in e
    ]
    replies = [e["tool_call_metadata"]["model_response"]["choices"][0]["message"] for e in acted]
    thoughts = [reply["content"] for reply in replies if reply["content"]]
    for e, reply in zip(acted, replies, strict=True):
        assert e["action"] == "think" or (reply["content"] or "") == e["args"]["thought"]
    messages = events(rows, "message")
    assert messages["text"].to_list() == thoughts
    for told in events(rows, "message", "tool_result").to_dicts()[::7]:
        record = rows.raw(told["trajectory_id"], told["seq"])
        if isinstance(
            record, dict
        ):  # a command, with the notes that the model saw around its output
            notes = record["extras"]["metadata"]
            record = notes["prefix"] + record["content"] + notes["suffix"]
        assert told["text"] in (record, *(record if isinstance(record, list) else ()))


def test_exported_lists(real_logs: Path) -> None:
    for name, steps, calls in (("basic_gui_mode", 5, 4), ("wrong_initial_state", 4, 4)):
        path = real_logs / "openhands_v0" / f"{name}.json"
        usage = {
            e["tool_call_metadata"]["model_response"]["id"]: e["tool_call_metadata"][
                "model_response"
            ]["usage"]
            for e in json.loads(path.read_text())
            if "tool_call_metadata" in e
        }
        runs = loaders.load(path)
        run = row(runs)
        assert (run["steps"], events(runs, "tool_call").height) == (steps, calls)
        assert run["input_tokens"] == sum(u["prompt_tokens"] for u in usage.values())
        assert run["cached_tokens"] == sum(u["cache_read_input_tokens"] for u in usage.values())
        assert run["model"] == "claude-3-5-sonnet-20241022"


def test_a_session_folder_is_one_run(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "openhands_v0" / "session_3396c6f9")
    run = row(runs)
    assert (len(runs), run["events"], problems(runs)) == (1, 1, [])
    assert run["native_id"] == "3396c6f9bc024b81ad9bd57d9b9a6768"
    assert (run["framework_version"], run["end_reason"]) == ("0.48.0", "awaiting_user_input")
    assert runs.tools.collect().height == 9
    assert runs.raw(run["trajectory_id"], 0) == events(runs)["text"][0]


# ---------------------------------------------------------------------- written here


def test_actions_of_one_response_are_one_call_and_ids_may_restart(tmp_path: Path) -> None:
    first, second = response("r1", "a", "b", reasoning_content="hm"), response("r2", "a")
    runs = load(
        tmp_path,
        [
            action(0, "run", tool_call_metadata=by(first, "a")),
            action(1, "run", tool_call_metadata=by(first, "b")),
            seen(2, 1, success=False, tool_call_metadata=by(first, "b")),
            seen(3, 0, tool_call_metadata=by(first, "a")),
            action(4, "run", tool_call_metadata=by(second, "a")),
            seen(5, 4, "error", tool_call_metadata=by(second, "a"), extras={"error_id": "X"}),
        ],
    )
    assert events(runs, "tool_call")["step"].to_list() == [0, 0, 1]
    assert events(runs, "tool_call")["arguments"].to_list()[2] == '{"n":"a"}'
    answers = events(runs, "tool_result")
    assert answers["call_seq"].to_list() == [2, 1, 5]
    assert answers["is_error"].to_list() == [True, None, True]
    assert answers["error_type"].to_list() == [None, None, "X"]
    assert events(runs, "thinking")["text"].to_list() == ["hm"]
    assert runs.steps.collect()["thinking"].to_list() == ["text", "absent"]
    assert row(runs)["input_tokens"] == 20


def test_rows_with_a_verdict_pairs_and_metrics(tmp_path: Path) -> None:
    usage = {"response_id": "r", "prompt_tokens": 7, "completion_tokens": 1, "cache_read_tokens": 3}
    reply = {**response("r", "a"), "usage": None}
    history = [[action(1, "run", tool_call_metadata=by(reply, "a")), seen(2, 1)]]
    rows = [
        {
            "instance_id": "i1",
            "history": history,
            "test_result": {"report": {"resolved": True}},
            "metrics": {
                "token_usages": [usage],
                "response_latencies": [{"response_id": "r", "latency": 2.0}],
            },
            "metadata": {"llm_config": {"model": "m", "api_key": "sk-secret", "top_p": 1.0}},
        },
        {"instance_id": 2, "history": None, "error": "ValueError: no", "test_result": {}},
    ]
    runs = load(tmp_path, "\n".join(map(json.dumps, rows)), "output.jsonl")
    first, second = runs.trajectories.collect().to_dicts()
    assert (first["outcome"], first["score"], first["params"]) == ("success", 1.0, '{"top_p":1.0}')
    assert (first["input_tokens"], first["cached_tokens"]) == (7, 3)
    assert "secret" not in str(first)
    assert (second["native_id"], second["outcome"], second["events"]) == ("2", "error", 0)
    step = runs.steps.collect().row(0, named=True)
    assert (step["ended_at"] - step["started_at"]).total_seconds() == 2
    assert events(runs)["source_pos"].to_list() == ["L1/history/0/0", "L1/history/0/1/content"]


def test_what_a_row_says_beside_its_history_is_metadata(tmp_path: Path) -> None:
    lost = {"response_id": "gone", "latency": 2.0, "model": "m"}
    record = {
        "instance_id": "i",
        "history": [],
        "instance": {"repo": "r", "instance_id": "i", "FAIL_TO_PASS": "[1]", "patch": None},
        "metadata": {"llm_config": {"num_retries": 4, "top_p": 1.0}, "condenser_config": {"n": 1}},
        "metrics": {"response_latencies": [lost], "costs": [{"cost": 0.1}]},
        "test_result": {"git_patch": "p", "report": {"resolved": False, "test_timeout": True}},
    }
    found = json.loads(row(load(tmp_path, json.dumps(record), "output.jsonl"))["metadata"])
    assert found["instance"] == {"FAIL_TO_PASS": "[1]"}
    assert found["llm_config"] == {"num_retries": 4}
    assert found["condenser_config"] == {"n": 1}
    assert found["metrics"] == {"costs": [{"cost": 0.1}]}
    assert found["report"]["test_timeout"] is True
    assert found["calls_without_action"] == [lost]


def test_a_command_s_result_has_the_notes_around_it_and_its_folder(tmp_path: Path) -> None:
    facts = {"prefix": "[before]\n", "suffix": "\n[timed out]", "working_dir": "/w"}
    spent = {"accumulated_cost": 0.5, "accumulated_token_usage": {"prompt_tokens": 9}}
    history = [
        action(0, "run", args={"command": "ls"}, timeout=120, llm_metrics=spent),
        seen(1, 0, extras={"metadata": {**facts, "exit_code": -1}}),
        seen(2, None, "recall", extras={"date": "2026", "microagent_knowledge": [{"name": "k"}]}),
    ]
    runs = load(tmp_path, history)
    answer = events(runs, "tool_result").row(0, named=True)
    assert (answer["text"], answer["exit_code"]) == ("[before]\nok\n[timed out]", None)
    assert answer["source_pos"] == "/1"
    run = row(runs)
    found = json.loads(run["metadata"])
    assert (run["cost_usd"], found["timeouts"]) == (0.5, [120.0])
    assert found["usage"] == {"prompt_tokens": 9}
    assert found["recalled"] == [{"date": "2026", "microagent_knowledge": [{"name": "k"}]}]
    without = load(tmp_path, history[:1], "without.json")
    assert run["environment"] != row(without)["environment"]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("Agent reached maximum iteration", "limit"), ("no such model", "error"), ("", "error")],
)
def test_states_are_kept_with_their_reasons(tmp_path: Path, reason: str, outcome: str) -> None:
    facts = {"agent_state": "error", "reason": reason}
    asked = action(0, "change_agent_state", "user", args={"agent_state": "running"})
    runs = load(tmp_path, [asked, seen(1, None, "agent_state_changed", extras=facts)])
    assert events(runs, "error")["text"].to_list() == ([reason] if reason else [])
    assert (row(runs)["outcome"], row(runs)["end_reason"]) == (outcome, "error")
    states = json.loads(row(runs)["metadata"])["states"]
    assert [state["agent_state"] for state in states] == ["running", "error"]
    assert states[0]["source"] == "user"


def test_versions_without_responses_link_by_cause(tmp_path: Path) -> None:
    args = {"command": "ls", "thought": "look", "hidden": False}
    trajectory = [
        action(0, "message", "user", args={"content": "go", "image_urls": ["x"]}),
        action(1, "run", args=args),
        seen(2, 1, extras={"exit_code": 3}),
        action(3, "run", "user", args={"command": "pwd"}, message="by hand"),
        seen(4, 3),
        seen(5, 1, "user_rejected"),
        seen(6, None, "agent_state_changed", extras={"agent_state": "error"}),
    ]
    runs = load(tmp_path, {"trajectory": trajectory})
    frame = events(runs)
    kinds = ["user", "message", "tool_call", "tool_result", "other", "other", "tool_result"]
    assert frame["kind"].to_list() == kinds
    assert frame["arguments"].to_list()[2] == '{"command":"ls"}'
    assert frame["exit_code"].to_list()[3] == 3
    assert frame["error_type"].to_list()[6] == "rejected"
    assert frame["media"].to_list()[0] == ["image"]
    assert (row(runs)["outcome"], row(runs)["end_reason"]) == ("error", "error")


def test_condensation_and_recalled_knowledge(tmp_path: Path) -> None:
    known = {"repo_instructions": "Be kind.", "microagent_knowledge": [{"content": "git"}]}
    runs = load(
        tmp_path,
        [
            seen(0, None, "recall", extras=known),
            action(1, "message", args={"content": "a"}),
            action(2, "condensation", args={"summary": "short"}),
            action(3, "message", args={"content": "b"}),
        ],
    )
    frame = events(runs)
    assert frame["kind"].to_list() == ["user", "message", "compaction", "message"]
    assert (frame["text"][0], frame["actor"][0]) == ("Be kind.\n\ngit", "harness")
    assert runs.steps.collect()["history_edit"].to_list() == [None, "compacted"]


def test_a_session_with_holes_is_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "s" / "events"
    folder.mkdir(parents=True)
    for number in (10, 2, 0):
        text = action(number, "message", "user", args={"content": str(number)})
        (folder / f"{number}.json").write_text(json.dumps(text))
    (folder / "1.json").write_text('{"id": 1, "timestamp": "x", "source": "agent", "act')
    (tmp_path / "s" / "metadata.json").write_text('{"conversation_id": "c", "trigger": "gui"}')
    runs = loaders.load(tmp_path / "s", format="openhands_v0")
    assert events(runs)["text"].to_list() == ["0", "2", "10"]
    assert json.loads(row(runs)["metadata"])["trigger"] == "gui"
    reasons = " ".join(runs.problems.collect()["reason"])
    assert "numbered events are missing" in reasons
    assert "neither an action nor an observation" in reasons


def test_hostile_events_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    hostile = [
        *([], 7, {"action": 3}, action(1, "run", tool_call_metadata=[1], args=[2], timestamp={})),
        action(2, "run", tool_call_metadata={"model_response": {"choices": [3], "id": 4}}),
        seen(3, 2, content={"a": 1}, extras=5, success="no"),
        action(4, "message", args={"content": "end"}, id="x"),
    ]
    runs = load(tmp_path, hostile)
    assert events(runs, "message")["text"].to_list() == ["end"]
    assert len(problems(runs)) == 3
    cut = load(
        tmp_path, json.dumps([action(0, "message", args={"content": "a"})] * 9)[:-40], "c.json"
    )
    assert events(cut).height >= 8
    assert str(problems(cut)[-1]).startswith("byte ")


def test_time_is_linear(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        history: list[Any] = []
        for n in range(size):
            reply = by(response(str(n), str(n)), str(n))
            history += [action(2 * n, "run", tool_call_metadata=reply), seen(2 * n + 1, 2 * n)]
        start = time.perf_counter()
        load(tmp_path, history)
        return time.perf_counter() - start

    seconds(100)
    assert seconds(8_000) < 16 * seconds(1_000) + 1
