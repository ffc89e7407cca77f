"""Codex rollouts and ``codex exec --json`` against the raw files, and variants written here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import codex, codex_exec
from loaders.sources import Source

FIRST = "rollout-2025-09-24T20-12-23-01997ea4-a70d-7da3-8c20-c736db82a7c5.jsonl"
SECOND = "rollout-2025-09-25T15-12-14-019982b8-3422-79e0-8b3b-05abaf4f3c3e.jsonl"
AT = "2026-01-02T03:04:05Z"


def line(kind: str, payload: Any, at: str = AT) -> dict[str, Any]:
    return {"timestamp": at, "type": kind, "payload": payload}


def item(kind: str, **more: Any) -> dict[str, Any]:
    return line("response_item", {"type": kind, **more})


def event(kind: str, **more: Any) -> dict[str, Any]:
    return line("event_msg", {"type": kind, **more})


def said(role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return item("message", role=role, content=[{"type": kind, "text": text}])


def thought(*summary: str, secret: str = "gAAA") -> dict[str, Any]:
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return item("reasoning", summary=parts, encrypted_content=secret)


def call(name: str) -> dict[str, Any]:
    return item("function_call", name="shell", arguments='{"n":1}', call_id=name)


def output(name: str, text: Any = "ok") -> dict[str, Any]:
    return item("function_call_output", call_id=name, output=text)


def count(new: int, total: int) -> dict[str, Any]:
    keys = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
    last, whole = dict(zip(keys, (new, 1, 5, 2), strict=True)), {"input_tokens": total}
    return event("token_count", info={"total_token_usage": whole, "last_token_usage": last})


META = line("session_meta", {"id": "s1", "cwd": "/w", "cli_version": "0.99"})


def load(path: Path, *lines: Any, name: str = "codex") -> Trajectories:
    file = path / "log.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return loaders.load(file, format=name)


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def problems(runs: Trajectories) -> list[str | None]:
    return runs.problems.collect()["position"].to_list()


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_every_item_is_told_once_and_tokens_add_up_to_the_last_total(
    real_logs: Path, name: str
) -> None:
    path = real_logs / "codex" / name
    payloads = [json.loads(text)["payload"] for text in path.read_text().splitlines()]
    kinds = [payload.get("type") for payload in payloads]
    counts = [payload["info"] for payload in payloads if payload.get("type") == "token_count"]
    runs = loaders.load(path)
    run, frame = row(runs), events(runs)
    assert problems(runs) == []
    told = frame["kind"].value_counts().rows_by_key("kind", unique=True)
    assert told["thinking"] == (kinds.count("reasoning"),)
    assert told["tool_call"] == (kinds.count("function_call"),)
    assert told["tool_result"] == (kinds.count("function_call_output"),)
    assert told["message"][0] + told["user"][0] == kinds.count("message")
    assert (run["unanswered_calls"], run["orphan_results"]) == (0, 0)
    total = counts[-1]["total_token_usage"]
    assert run["steps"] == len(counts)
    assert [run["input_tokens"], run["output_tokens"]] == [
        total["input_tokens"],
        total["output_tokens"],
    ]
    assert [run["cached_tokens"], run["reasoning_tokens"]] == [
        total["cached_input_tokens"],
        total["reasoning_output_tokens"],
    ]
    per_call = [info["last_token_usage"]["input_tokens"] for info in counts]
    assert steps(runs, "input_tokens") == per_call
    assert (run["model"], run["native_id"]) == ("gpt-5-codex", name[-42:-6])
    assert run["params"] == '{"reasoning_effort":"high"}'
    assert set(steps(runs, "evidence")) == {"unknown"}
    assert set(steps(runs, "thinking_sent")) == {None}


def test_each_call_has_the_count_in_front_of_it(real_logs: Path) -> None:
    lines = (real_logs / "codex" / SECOND).read_text().splitlines()
    groups: list[list[Any]] = []
    for payload in (json.loads(text)["payload"] for text in lines):
        if payload.get("type") == "token_count":
            groups.append([payload["info"]["last_token_usage"]["output_tokens"]])
        elif groups:
            groups[-1].append(payload.get("type"))
    expected = [(g[0], "reasoning" in g, g.count("function_call")) for g in groups]
    runs = loaders.load(real_logs / "codex" / SECOND)
    calls = events(runs, "tool_call")["step"].to_list()
    shown = runs.steps.collect().select("step", "output_tokens", "thinking").rows()
    assert [(n, state != "absent", calls.count(step)) for step, n, state in shown] == expected
    assert steps(runs, "thinking").count("hidden") == 1


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_exit_codes_and_places_lead_back_to_the_raw_lines(real_logs: Path, name: str) -> None:
    path = real_logs / "codex" / name
    payloads = [json.loads(text)["payload"] for text in path.read_text().splitlines()]
    raw = [json.loads(p["output"]) for p in payloads if p.get("type") == "function_call_output"]
    runs = loaders.load(path)
    frame = events(runs, "tool_result")
    assert frame["text"].to_list() == [value["output"] for value in raw]
    assert frame["exit_code"].to_list() == [value["metadata"]["exit_code"] for value in raw]
    assert frame["is_error"].null_count() == len(raw)
    for told in events(runs).filter(pl.col("kind").is_in(["user", "message"])).to_dicts():
        record = runs.raw(told["trajectory_id"], told["seq"])
        assert record[0]["text"] in told["text"]


def test_the_injected_environment_is_not_the_users_prompt(real_logs: Path) -> None:
    frame = events(loaders.load(real_logs / "codex" / SECOND), "user")
    assert frame["actor"].to_list() == ["harness", None]
    assert frame["text"].str.starts_with("<environment_context>").to_list() == [True, False]


def test_later_record_types_are_read(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "codex" / "schema_drift_2026.jsonl")
    raw = [
        json.loads(text)
        for text in (real_logs / "codex" / "schema_drift_2026.jsonl").read_text().splitlines()
    ]
    assert problems(runs) == []
    compactions = [record for record in raw if record["type"] == "compacted"]
    assert events(runs, "compaction").height == len(compactions)
    answers = events(runs, "tool_result")
    assert answers["call_seq"].null_count() == row(runs)["orphan_results"]
    assert json.loads(row(runs)["metadata"])["copied_from"]
    assert runs.tools.collect()["name"].to_list()[0] is not None


def test_a_rate_limit_is_an_error_and_its_repeated_count_no_call(real_logs: Path) -> None:
    run = row(loaders.load(real_logs / "codex" / "codex_053_rate_limit.jsonl"))
    assert (run["outcome"], run["steps"], run["input_tokens"]) == ("error", 1, 12091)


def test_only_the_own_files_are_recognised(real_logs: Path) -> None:
    for path in (real_logs / "codex").rglob("*.jsonl"):
        is_exec = path.parent.name == "exec_json"
        head = Source(path).head
        assert (codex.sniff(head), codex_exec.sniff(head)) == (not is_exec, is_exec)


# ---------------------------------------------------------------------- written here


def test_a_counter_that_restarts_and_repeats_counts_each_call_once(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(META, said("user", "go"), thought("a"), call("1"), count(1000, 1_363_408), output("1")),
        *(count(1000, 1_363_408), said("assistant", "b"), count(37_543, 37_543)),
    )
    assert steps(runs, "input_tokens") == [1000, 37_543]
    assert row(runs)["input_tokens"] == 38_543
    assert events(runs)["step"].to_list() == [None, 0, 0, 0, 1]


def test_a_count_in_front_keeps_parallel_calls_in_one_step(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(META, count(7, 7), call("1"), output("1"), call("2"), output("2")),
        *(count(8, 15), said("assistant", "done")),
    )
    assert steps(runs, "input_tokens") == [7, 8]
    assert events(runs, "tool_call")["step"].to_list() == [0, 0]


def test_without_counts_an_output_ends_the_call(tmp_path: Path) -> None:
    runs = load(tmp_path, META, call("1"), call("2"), output("1"), output("2"), call("3"))
    assert events(runs, "tool_call")["step"].to_list() == [0, 0, 1]
    assert row(runs)["input_tokens"] is None
    assert row(runs)["unanswered_calls"] == 1


def test_twins_are_told_once_in_either_order_and_aborted_ones_not_lost(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(META, event("user_message", message="go"), said("user", "go")),
        *(event("agent_reasoning", text="plan A"), thought("plan A", "plan B")),
        *(said("assistant", "hello <cite/>"), event("agent_reasoning", text="plan B")),
        *(event("agent_message", message="hello"), said("user", "more")),
        *(event("user_message", message="more"), event("agent_reasoning", text="cut short")),
        event("turn_aborted", reason="interrupted"),
    )
    frame = events(runs)
    assert frame["kind"].to_list() == ["user", "thinking", "message", "user", "thinking"]
    assert frame["text"].to_list()[1::3] == ["plan A\n\nplan B", "cut short"]
    assert frame["source_pos"].to_list()[-1] == "L11/payload/text"
    assert (row(runs)["outcome"], row(runs)["end_reason"]) == ("cancelled", "interrupted")


def test_a_message_that_only_an_event_has_is_told(tmp_path: Path) -> None:
    shown = {"type": "AgentMessage", "content": [{"type": "Text", "text": "hi"}]}
    runs = load(
        tmp_path, META, event("user_message", message="go"), event("item_completed", item=shown)
    )
    assert events(runs).select("kind", "text").rows() == [("user", "go"), ("message", "hi")]


def test_a_compaction_replaces_the_history(tmp_path: Path) -> None:
    history = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": t}]}
               for t in ("go", "summary of all")]  # fmt: skip
    runs = load(
        tmp_path,
        *(META, said("user", "go"), thought("x"), call("1"), count(5, 5), output("1")),
        *(count(90, 95), line("compacted", {"message": "", "replacement_history": history})),
        *(said("assistant", "on"), count(6, 101), said("user", "more"), said("assistant", "end")),
    )
    assert steps(runs, "agent") == [None, "compaction", None, None]
    assert steps(runs, "input_tokens") == [5, 90, 6, None]
    assert events(runs, "compaction")["text"].to_list() == ["summary of all"]
    assert steps(runs, "history_edit") == [None, None, "compacted", "compacted"]
    kept = {"start": 0, "stop": 1}
    assert steps(runs, "context")[2:] == [
        [kept, {"start": 4, "stop": 5}],
        [kept, {"start": 4, "stop": 7}],
    ]
    assert steps(runs, "thinking_sent") == [None] * 4


@pytest.mark.parametrize(
    ("raw", "text", "exit_code", "seconds", "truncated"),
    [
        ('{"output":"x","metadata":{"exit_code":2,"duration_seconds":1.5}}', "x", 2, 1.5, None),
        ([{"type": "input_text", "text": "a"}, {"type": "input_image"}], "a", None, None, None),
        ('{"output": cut', '{"output": cut', None, None, None),
        ("Exit code: 3 in prose", "Exit code: 3 in prose", None, None, None),
        (
            "Exit code: 1\nWall time: 0.5 seconds\nTotal output lines: 9\nOutput:\nx",
            None,
            1,
            0.5,
            True,
        ),
    ],
)
def test_outputs_of_all_kinds(
    tmp_path: Path, raw: Any, text: str | None, exit_code: int, seconds: float, truncated: bool
) -> None:
    result = events(load(tmp_path, META, call("1"), output("1", raw)), "tool_result").row(
        0, named=True
    )
    assert result["text"] == (text or raw)
    assert result["exit_code"] == exit_code
    assert result["duration_s"] == seconds
    assert result["truncated"] is truncated
    assert result["call_seq"] == 0


def test_what_a_tools_end_event_flags_goes_to_its_output(tmp_path: Path) -> None:
    def ended(name: str, result: Any) -> dict[str, Any]:
        duration = {"secs": 1, "nanos": 500_000_000}
        return event("mcp_tool_call_end", call_id=name, duration=duration, result=result)

    runs = load(
        tmp_path,
        *(META, call("1"), call("2"), call("3"), ended("1", {"Err": "x"})),
        *(ended("2", {"Ok": {"isError": False}}), output("1"), output("2"), output("3")),
    )
    answers = events(runs, "tool_result")
    assert answers["is_error"].to_list() == [True, False, None]
    assert answers["duration_s"].to_list() == [1.5, 1.5, None]


def test_a_subagents_rollout_finds_its_parent(tmp_path: Path) -> None:
    spawned = event("collab_agent_spawn_end", call_id="c", new_thread_id="child")
    child = line("session_meta", {"id": "child", "parent_thread_id": "s1"})
    for name, lines in {
        "a": [META, call("c"), spawned, output("c")],
        "b": [child, META, said("user", "do it")],
    }.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    runs = loaders.load(tmp_path).trajectories.collect()
    parent, sub = runs.filter(native_id="s1"), runs.filter(native_id="child")
    assert sub["parent_id"].to_list() == parent["trajectory_id"].to_list()
    assert sub["parent_seq"].to_list() == [0]
    assert json.loads(sub["metadata"][0])["copied_from"] == ["s1"]


def test_bare_items_of_the_first_versions(tmp_path: Path) -> None:
    lines = [
        {"id": "old", "timestamp": AT, "instructions": "Be brief."},
        {"record_type": "state"},
        said("user", "go")["payload"],
        thought("t")["payload"],
        output("gone")["payload"],
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    runs = loaders.load(tmp_path)
    kinds = ["system", "user", "thinking", "tool_result"]
    assert events(runs)["kind"].to_list() == kinds
    assert (row(runs)["native_id"], row(runs)["orphan_results"]) == ("old", 1)


def test_hostile_lines_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    hostile = [
        *('{"timestamp":', "[1]", line("response_item", 7), line("session_meta", {"id": 3})),
        *(item("message", role=[], content=4), item("reasoning", summary={"a": 1}), item("x")),
        *(event("token_count", info={"last_token_usage": 3}), event("agent_message", message=[])),
        *(output("1", {"content": [None]}), line("compacted", {"replacement_history": [1, None]})),
        *(item("function_call", name=1, arguments={"a": 1}), event("mcp_tool_call_end", result=1)),
        *(line("turn_context", {"model": 1, "sandbox_policy": []}), said("assistant", "end")),
    ]
    runs = load(tmp_path, *hostile)
    assert events(runs, "message")["text"].to_list() == ["end"]
    assert set(problems(runs)) >= {"L1", "L2", "L3"}


def test_time_is_linear_in_the_length_of_a_turn(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        turns = [x for n in range(size) for x in (thought(f"t{n}"), call(str(n)), output(str(n)))]
        start = time.perf_counter()
        load(tmp_path, META, said("user", "go"), *turns)
        return time.perf_counter() - start

    seconds(500)
    assert seconds(16_000) < 16 * seconds(2_000) + 1


# ---------------------------------------------------------------------- codex exec --json


def done(kind: str, name: str = "i", stage: str = "completed", **more: Any) -> dict[str, Any]:
    return {"type": f"item.{stage}", "item": {"id": name, "type": kind, **more}}


START = {"type": "thread.started", "thread_id": "t1"}


def test_real_streams_hold_every_item(real_logs: Path) -> None:
    for path in sorted((real_logs / "codex" / "exec_json").iterdir()):
        raw = [json.loads(text) for text in path.read_text().splitlines()]
        items = [e["item"] for e in raw if e["type"] == "item.completed"]
        tools = [i for i in items if i["type"] in ("command_execution", "file_change")]
        runs = loaders.load(path)
        run, answers = row(runs), events(runs, "tool_result")
        shown = [i["text"] for i in items if i["type"] in ("reasoning", "agent_message")]
        assert events(runs, "thinking", "message")["text"].to_list() == shown
        assert events(runs, "tool_call").height == answers.height == len(tools)
        assert answers["text"].to_list() == [i.get("aggregated_output") for i in tools]
        assert answers["exit_code"].to_list() == [i.get("exit_code") for i in tools]
        usage = raw[-1]["usage"]
        counts = run["input_tokens"], run["cached_tokens"], run["output_tokens"]
        assert counts == tuple(usage.values())
        assert (run["native_id"], run["steps"]) == (raw[0]["thread_id"], 1 + bool(tools))
        assert set(events(runs, "thinking")["thinking_state"]) == {"summary"}


def test_parallel_failed_and_unfinished_tools(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(START, done("command_execution", "a", "started", command="x")),
        done("mcp_tool_call", "b", "started", server="s", tool="t", arguments={"q": 1}),
        done("mcp_tool_call", "b", tool="t", error={"message": "no"}, status="failed"),
        done("command_execution", "a", aggregated_output="y", exit_code=1, status="declined"),
        *(
            done("web_search", "c", "started", query="z"),
            {"type": "turn.failed", "error": {"message": "e"}},
        ),
        name="codex_exec",
    )
    calls, answers = events(runs, "tool_call"), events(runs, "tool_result")
    assert calls["tool"].to_list() == ["command_execution", "s.t", "web_search"]
    assert calls["step"].to_list() == [0, 0, 1]
    assert answers["call_seq"].to_list() == [1, 0]
    assert answers["is_error"].to_list() == [True, True]
    assert answers["text"].to_list() == ["no", "y"]
    run = row(runs)
    assert (run["outcome"], run["end_reason"], run["unanswered_calls"]) == ("error", "e", 1)


def test_threads_in_one_file_and_usage_that_restarts(tmp_path: Path) -> None:
    def turn(tokens: int) -> dict[str, Any]:
        return {"type": "turn.completed", "usage": {"input_tokens": tokens, "output_tokens": 1}}

    runs = load(
        tmp_path,
        *(START, turn(10), turn(30), START, done("agent_message", text="m"), turn(5)),
        *("Reading prompt from stdin...", {"type": "thread.started", "thread_id": "t2"}, turn(4)),
        name="codex_exec",
    )
    frame = runs.trajectories.collect()
    assert frame.select("native_id", "input_tokens").rows() == [("t1", 35), ("t2", 4)]
    assert problems(runs) == ["L7"]


def test_a_list_of_todos_is_a_call_each_time_it_changes(tmp_path: Path) -> None:
    stages = [
        done("todo_list", "p", stage, items=[]) for stage in ("started", "updated", "completed")
    ]
    runs = load(
        tmp_path,
        START,
        *stages,
        done([], "x"),
        {"type": "item.completed", "item": 3},
        name="codex_exec",
    )  # type: ignore[arg-type]
    assert events(runs, "tool_call").height == 2
    assert row(runs)["unanswered_calls"] == 0
    assert events(runs, "other").height == 2


# ---------------------------------------------------------------------- what is worth keeping


def test_settings_notes_and_ends_of_turns_are_kept(tmp_path: Path) -> None:
    info = {"total_token_usage": {}, "last_token_usage": {}, "model_context_window": 99}
    limits = {"primary": {"used_percent": 3.0}}
    runs = load(
        tmp_path,
        {**META, "payload": {**META["payload"], "memory_mode": "off"}},
        line("turn_context", {"turn_id": "1", "model": "m", "cwd": "/w", "personality": "dry"}),
        said("user", "do it"),
        event("token_count", info=info, rate_limits=limits),
        event("task_complete", turn_id="1", duration_ms=1200, last_agent_message="done"),
        line("turn_context", {"turn_id": "2", "model": "m", "cwd": "/x", "personality": "dry"}),
        event("error", message="slow down", error={"kind": "rate_limit", "resetAt": "noon"}),
    )
    metadata = json.loads(row(runs)["metadata"])
    assert metadata["memory_mode"] == "off"
    assert metadata["settings_of_turns"] == [
        {"model": "m", "cwd": "/w", "personality": "dry"},
        {"cwd": "/x"},
    ]
    assert metadata["turn_ends"] == [{"duration_ms": 1200, "last_agent_message": "done"}]
    assert (metadata["model_context_window"], metadata["rate_limits"]) == (99, limits)
    assert metadata["errors"] == [{"kind": "rate_limit", "resetAt": "noon"}]


def test_what_ended_a_call_without_an_output_is_told(tmp_path: Path) -> None:
    ended = event("exec_command_end", call_id="c", aggregated_output="half of it", exit_code=1)
    runs = load(tmp_path, META, call("c"), ended)
    assert json.loads(events(runs, "other")["text"][0])["aggregated_output"] == "half of it"
    answered = load(tmp_path, META, call("c"), ended, output("c"))
    assert events(answered, "other").is_empty()
    assert events(answered, "tool_result")["exit_code"].to_list() == [1]


def test_lines_about_the_world_and_the_thread_are_told(tmp_path: Path) -> None:
    world = line("world_state", {"full": True, "state": {"git": "x"}})
    goal = event("thread_goal_updated", goal={"objective": "win"})
    told = events(load(tmp_path, META, world, goal), "other")
    assert told["actor"].to_list() == ["world_state", "thread_goal_updated"]
    assert json.loads(told["text"][0]) == {"full": True, "state": {"git": "x"}}


def test_nothing_of_the_real_logs_is_lost(real_logs: Path) -> None:
    assert loaders.coverage(real_logs / "codex", progress=False).lost.is_empty()
