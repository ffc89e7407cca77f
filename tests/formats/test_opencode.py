"""OpenCode against counts of the raw files, and sessions written here for what those lack."""

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
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / "opencode")


@pytest.fixture(scope="module")
def exports(real_logs: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted((real_logs / "opencode").glob("*.json"))]


def parts_of(exports: list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    messages = [m for record in exports for m in record["messages"] if m["info"]["role"] == role]
    return [part for message in messages for part in message["parts"]]


def test_every_part_of_the_exports_is_there(
    runs: Trajectories, exports: list[dict[str, Any]]
) -> None:
    told = runs.filter(pl.col("native_id").str.starts_with("ses_"))
    kinds = dict(told.events.group_by("kind").len().collect().iter_rows())
    replied, asked = parts_of(exports, "assistant"), parts_of(exports, "user")
    tools = [part for part in replied if part["type"] == "tool"]
    done = [part for part in tools if part["state"]["status"] != "running"]
    assert kinds["tool_call"] == len(tools)
    assert kinds["tool_result"] == len(done) == len(tools) - 1
    assert kinds["message"] == sum(part["type"] == "text" for part in replied)
    assert kinds["user"] == sum(part["type"] in ("text", "file") for part in asked)
    failed = [part for part in done if part["state"]["status"] == "error"]
    results = told.events.filter(pl.col("kind") == "tool_result").collect()
    assert Counter(results["is_error"]) == {True: len(failed), False: len(done) - len(failed)}
    exits = [part["state"].get("metadata", {}).get("exit") for part in done]
    assert Counter(results["exit_code"]) == Counter(exits)
    assert told.trajectories.collect()["unanswered_calls"].sum() == 1
    synthetic = sum(part.get("synthetic", False) for part in asked)
    assert (
        told.events.filter(pl.col("kind") == "user", pl.col("actor") == "harness").collect().height
        == synthetic
        > 0
    )


def test_reasoning_is_a_summary_or_hidden_never_plain(
    runs: Trajectories, exports: list[dict[str, Any]]
) -> None:
    told = runs.filter(pl.col("native_id").str.starts_with("ses_"))
    thoughts = told.events.filter(pl.col("kind") == "thinking").collect()
    raw = [part for part in parts_of(exports, "assistant") if part["type"] == "reasoning"]
    empty = sum(not part["text"] for part in raw)
    assert Counter(thoughts["thinking_state"]) == {"summary": len(raw) - empty, "hidden": empty}
    encrypted = [part["metadata"]["openai"].get("reasoningEncryptedContent") for part in raw]
    assert thoughts["signature"].to_list() == encrypted
    assert told.steps.collect()["thinking_sent"].null_count() == told.steps.collect().height


def test_tokens_and_aborted_calls(runs: Trajectories, exports: list[dict[str, Any]]) -> None:
    told = runs.filter(pl.col("native_id").str.starts_with("ses_")).steps.collect()
    replies = [
        m["info"]
        for record in exports
        for m in record["messages"]
        if m["info"]["role"] == "assistant"
    ]
    assert told.height == len(replies)
    totals = [info["tokens"].get("total", 0) for info in replies]
    assert told["input_tokens"].sum() + told["output_tokens"].sum() == sum(totals)
    assert told["reasoning_tokens"].sum() == sum(info["tokens"]["reasoning"] for info in replies)
    assert told["input_tokens"].null_count() == totals.count(0)
    aborted = sum("error" in info for info in replies)
    assert told["error"].str.starts_with("MessageAbortedError").sum() == aborted > 0


def test_the_storage_tree_is_a_run_per_session(runs: Trajectories) -> None:
    tree = runs.filter(pl.col("native_id").str.starts_with("s_stage0"))
    rows = tree.trajectories.sort("native_id").collect()
    assert rows["native_id"].to_list() == ["s_stage0_drift", "s_stage0_large", "s_stage0_small"]
    assert rows["steps"].to_list() == [1, 2, 1]
    assert rows["outcome"].to_list() == ["unknown"] * 3
    large = tree.filter(pl.col("native_id") == "s_stage0_large").events.collect()
    assert large["kind"].to_list() == [
        *("user", "tool_call", "message", "message", "thinking", "compaction", "other"),
        *("tool_result", "error", "user", "message"),
    ]
    assert large.filter(pl.col("kind") == "tool_result")["exit_code"].to_list() == [1]
    problems = runs.problems.filter(pl.col("severity") != "skipped").collect()
    assert problems.is_empty()


def test_every_event_leads_back_to_its_raw_record(runs: Trajectories) -> None:
    for run, seq, text in (
        runs.events.filter(pl.col("kind").is_in(["user", "message"]))
        .select("trajectory_id", "seq", "text")
        .collect()
        .iter_rows()
    ):
        raw = runs.raw(run, seq)
        assert (raw.get("type") == "file" or "role" in raw) if text is None else raw == text


# ---------------------------------------------------------------------- written here


def part(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": "p", "messageID": "m", "type": kind, **more}


def tool(status: str = "completed", **state: Any) -> dict[str, Any]:
    state = {"status": status, "input": {"a": 1}, "output": "out", **state}
    return part("tool", callID="c", tool="bash", state=state)


def reply(*parts: Any, **info: Any) -> dict[str, Any]:
    return {"info": {"id": "m", "role": "assistant", "modelID": "x", **info}, "parts": list(parts)}


def ask(*parts: Any, **info: Any) -> dict[str, Any]:
    return {"info": {"id": "u", "role": "user", **info}, "parts": list(parts)}


def load(tmp_path: Path, *messages: Any, name: str = "ses_1") -> Trajectories:
    record = {"info": {"id": name, "version": "1", "time": {}}, "messages": list(messages)}
    (tmp_path / f"{name}.json").write_text(json.dumps(record))
    return loaders.load(tmp_path)


def test_thinking_of_other_providers_and_empty_reasoning(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        reply(
            part("reasoning", text="plan", metadata={"anthropic": {"signature": "s"}}),
            part("reasoning", text="", metadata={"anthropic": {"redactedData": "d"}}),
            part("reasoning", text="open"),
            part("reasoning", text=""),
        ),
    )
    events = runs.events.collect()
    assert events.select("thinking_state", "signature", "error_type").rows() == [
        ("text", "s", None),
        ("redacted", "d", None),
        ("text", None, None),
        (None, None, "empty_reasoning"),
    ]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ({"input": 10, "output": 5, "reasoning": 3, "cache": {"read": 7, "write": 1}, "total": 26},
         (18, 8, 3, 7)),
        ({"input": 10, "output": 5, "reasoning": 3, "total": 15}, (10, 5, 3, None)),
        ({"input": 10, "output": 2, "reasoning": 3}, (10, 5, 3, None)),
        ({"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0}}, (None,) * 4),
        ([1], (None,) * 4),
    ],
)  # fmt: skip
def test_reasoning_may_be_counted_apart(
    tmp_path: Path, tokens: Any, expected: tuple[int | None, ...]
) -> None:
    steps = load(tmp_path, reply(part("text", text="hi"), tokens=tokens)).steps.collect()
    columns = ["input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"]
    assert steps.select(columns).rows() == [expected]


def test_a_message_of_older_versions_holds_several_calls(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        reply(
            part("step-start"),
            tool(metadata={"exit": 2, "truncated": True}),
            part("step-finish", reason="tool-calls", tokens={"input": 4, "output": 1}),
            part("step-start"),
            part("text", text="done"),
            part("step-finish", reason="stop", tokens={"input": 6, "output": 2}),
            tokens={"input": 10, "output": 3},
        ),
    )
    steps = runs.steps.collect()
    assert steps.select("input_tokens", "stop_reason").rows() == [(4, "tool-calls"), (6, "stop")]
    result = runs.events.filter(pl.col("kind") == "tool_result").collect().row(0, named=True)
    assert (result["step"], result["exit_code"], result["truncated"]) == (0, 2, True)


def test_tools_without_an_end_errors_and_cleared_results(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        reply(tool("pending"), tool("running"), tool("error", error="no"), tool("new")),
        reply(tool(time={"start": 1000, "end": 3000, "compacted": 4000})),
    )
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results.select("call_seq", "text", "is_error", "duration_s").rows() == [
        (2, "no", True, None),
        (3, "out", None, None),
        (9, "out", False, 2000.0),
    ]
    so_far = runs.events.filter(pl.col("error_type") == "output_so_far").collect()
    assert so_far["text"].to_list() == ["out"] * 3, "of what did not come to its end"
    row = runs.trajectories.collect().row(0, named=True)
    assert row["unanswered_calls"] == 2
    assert json.loads(row["metadata"]) == {"results_later_cleared_from_context": 1}


def test_a_subagent_is_linked_to_the_call_that_started_it(tmp_path: Path) -> None:
    load(tmp_path, reply(part("text", text="hi")), name="ses_child")
    call = tool(metadata={"sessionId": "ses_child"})
    runs = load(tmp_path, reply(part("text", text="go"), call), name="ses_parent")
    rows = {row["native_id"]: row for row in runs.trajectories.collect().to_dicts()}
    child, parent = rows["ses_child"], rows["ses_parent"]
    assert (child["parent_id"], child["parent_seq"]) == (parent["trajectory_id"], 1)


def test_compaction_retries_errors_and_notes(tmp_path: Path) -> None:
    error = {"name": "APIError", "data": {"message": "busy"}}
    runs = load(
        tmp_path,
        ask(
            part("text", text="shown", ignored=True), part("subtask", prompt="p"), system="be good"
        ),
        ask(part("compaction", auto=True), system="be good"),
        reply(part("text", text="summary"), summary=True, agent="compaction"),
        reply(part("retry", error=error), part("text", text="hi"), error=error, cost=0.5),
    )
    events = runs.events.collect()
    assert (
        events.select("kind", "text").rows()
        == [
            *[("other", "shown"), ("other", "p"), ("compaction", None), ("message", "summary")],
            *[("error", "busy"), ("message", "hi"), ("error", "busy")],
        ]
        or events["kind"][0] == "system"
    )
    assert runs.steps.collect()["history_edit"].to_list() == [None, "compacted"]
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["end_reason"], row["cost_usd"]) == ("error", "APIError", 0.5)


def test_broken_parts_of_a_tree_cost_only_themselves(tmp_path: Path) -> None:
    for name, text in {
        "session/p/s.json": {"id": "s", "projectID": "p", "directory": "/w", "time": {}},
        "session/p/t.json": {"id": "t", "projectID": "p", "directory": "/w", "time": {}},
        "message/s/m.json": {"id": "m", "sessionID": "s", "role": "assistant"},
        "message/s/n.json": {"id": "n", "sessionID": "s", "role": "assistant"},
        "part/m/1.json": part("text", text="whole"),
        "part/m/2.json": part("text", text="x" * 50)["text"].join(
            ['{"id":"p","type":"text","te', ""]
        ),
        "part/gone/3.json": {"id": "p", "messageID": "gone", "type": "text", "text": "orphan"},
    }.items():
        path = tmp_path / "storage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else json.dumps(text))
    runs = loaders.load(tmp_path)
    assert runs.trajectories.collect()["native_id"].to_list() == ["s"]
    assert runs.trajectories.collect()["steps"].to_list() == [2]
    assert runs.events.collect()["text"][0] == "whole"
    reasons = " ".join(runs.problems.collect()["reason"])
    assert "a session without messages" in reasons
    assert "1 parts of a message that is not there: gone" in reasons
    assert "2.json" in " ".join(
        f"{a}{b}" for a, b in runs.problems.select("source", "position").collect().rows()
    )


def test_hostile_types_and_a_cut_file(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        3,
        {"info": {"role": "ghost"}},
        reply(1, part("tool", state=[1]), part("reasoning", text={}, metadata=[1]), part("file")),
        reply(part("patch", files=[1]), time="x", tokens=5, error="text", cost="free"),
        ask(part("text", text=7), time={"created": "never"}),
    )
    assert runs.problems.filter(pl.col("severity") == "error").collect().height == 2
    assert runs.trajectories.collect()["steps"].to_list() == [2]
    file = tmp_path / "ses_1.json"
    file.write_text(file.read_text()[:-40])
    runs = loaders.load(tmp_path)
    assert "what stands before" in " ".join(runs.problems.collect()["reason"])
    assert runs.trajectories.collect()["steps"].to_list() == [2]


# ---------------------------------------------------------------------- what is worth keeping


def test_signatures_durations_and_names_of_files_are_kept(tmp_path: Path) -> None:
    span = {"start": 1000, "end": 1500}
    signed = {"google": {"thoughtSignature": "sig"}}
    runs = load(
        tmp_path,
        reply(
            part("reasoning", text="plan", time=span),
            {**tool(time=span), "metadata": signed},
            part("text", text="done", time=span, metadata=signed),
            part("file", url="file:///w/log.txt", filename="log.txt", mime="text/plain"),
            part("file", url="data:image/png;base64,AA", filename="a.png", mime="image/png"),
        ),
    )
    events = runs.events.collect()
    assert events.select("kind", "text", "signature", "duration_s").rows() == [
        ("thinking", "plan", None, 500.0),
        ("tool_call", None, "sig", None),
        ("message", "done", "sig", 500.0),
        ("message", "file:///w/log.txt", None, None),
        ("message", "a.png", None, None),
        ("tool_result", "out", None, 500.0),
    ]


def test_notes_of_the_session_are_kept(tmp_path: Path) -> None:
    diff = {"file": "a.py", "before": "x", "after": "y", "additions": 1, "deletions": 2}
    summary = {"title": "A turn", "diffs": [diff]}
    asked = ask(part("compaction", auto=True), summary=summary)
    runs = load(tmp_path, asked, reply(providerID="p"), reply(providerID="q"))
    row = runs.trajectories.collect().row(0, named=True)
    metadata = json.loads(row["metadata"])
    assert metadata["turns"] == [
        {"title": "A turn", "diffs": [{"file": "a.py", "additions": 1, "deletions": 2}]}
    ]
    assert metadata["compactions"] == [{"auto": True}]
    assert (row["provider"], metadata["providers"]) == (None, ["p", "q"])


def test_nothing_of_the_real_logs_is_lost(real_logs: Path) -> None:
    assert loaders.coverage(real_logs / "opencode", progress=False).lost.is_empty()
