"""Strands' sessions, snapshots and messages: figures counted from logs of its own, and small ones."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import loaders
from loaders import Trajectories
from loaders.formats import openai_chat, strands
from loaders.sources import Source

Object = dict[str, Any]
SAMPLES = ROOT / "sample_logs"
LOGS = SAMPLES / "frameworks" / "strands"
TRUTH = json.loads((SAMPLES / "truth.json").read_text())["parts"]["strands"]["runs"]


# ---------------------------------------------------------------------- logs written by Strands


def raw_messages(path: Path) -> list[Object]:
    """The messages of a log, found by their layout alone."""
    if path.is_dir():
        files = sorted(path.rglob("message_*.json"), key=lambda file: int(file.stem[8:]))
        return [json.loads(file.read_text())["message"] for file in files]
    log = json.loads(path.read_text())
    return log if isinstance(log, list) else log["data"]["messages"]


def blocks_of(messages: list[Object], key: str) -> list[Object]:
    return [block[key] for one in messages for block in one["content"] if key in block]


@pytest.mark.parametrize("run", TRUTH, ids=lambda run: run["log"].rpartition("/")[2])
def test_the_figures_of_a_log(run: Object) -> None:
    messages = raw_messages(SAMPLES / run["log"])
    runs = loaders.load(SAMPLES / run["log"])
    events, steps = runs.events.collect(), runs.steps.collect()
    replies = [one for one in messages if one["role"] == "assistant"]
    calls = blocks_of(messages, "toolUse")
    told = events.filter(events["kind"] == "tool_call")
    assert told.select("tool", "call_id").rows() == [(c["name"], c["toolUseId"]) for c in calls]
    assert [json.loads(text) for text in told["arguments"]] == [c["input"] for c in calls]
    results = events.filter(events["kind"] == "tool_result")
    assert results.select("call_id", "text", "is_error").rows() == [
        (r["toolUseId"], r["content"][0]["text"], r["status"] == "error")
        for r in blocks_of(messages, "toolResult")
    ]
    assert results["call_seq"].to_list() == told["seq"].to_list()
    raised = [hit for hit in run["perturbations"] if hit["kind"] == "raised_error"]
    failed = results.filter(results["is_error"])
    assert failed["error_type"].to_list() == ["ToolRaised"] * len(raised)
    assert steps.height == len(replies) == run["steps"]
    usages = [one["metadata"]["usage"] for one in replies]
    assert steps["output_tokens"].to_list() == [usage["outputTokens"] for usage in usages]
    asked = [usage["totalTokens"] - usage["outputTokens"] for usage in usages]
    assert steps["input_tokens"].to_list() == asked
    assert steps["cached_tokens"].fill_null(0).to_list() == [
        usage.get("cacheReadInputTokens", 0) for usage in usages
    ]
    assert sum(steps["cached_tokens"].fill_null(0)) > 0
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["framework"], row["unanswered_calls"], row["orphan_results"]) == ("strands", 0, 0)
    assert runs.trajectories.collect().height == 1
    assert runs.problems.collect().height == 0
    for name, seq in events.select("trajectory_id", "seq").rows():
        assert runs.raw(name, seq)


@pytest.mark.parametrize("run", TRUTH, ids=lambda run: run["log"].rpartition("/")[2])
def test_thinking_is_in_the_log_whether_or_not_it_was_sent(run: Object) -> None:
    """``reasoning_content`` is never sent back, and the log looks as if it could have been."""
    runs = loaders.load(SAMPLES / run["log"])
    state = "tagged_in_text" if run["style"] == "think_tags" else "text"
    steps, events = runs.steps.collect(), runs.events.collect()
    assert steps["thinking"].to_list() == [state] * run["steps"]
    assert run["thinking_in_log"] == run["steps"]
    is_sent = run["style"] != "reasoning_content"
    assert run["thinking_sent"] == [n * is_sent for n in run["thinking_available"]]
    assert steps["thinking_sent"].null_count() == steps.height
    shown = events.filter(events["kind"] == "thinking")
    assert shown["signature"].null_count() == (0 if run["style"] == "anthropic" else run["steps"])
    assert "Plan:" in shown["text"][0]


def test_a_session_is_one_log_in_many_files() -> None:
    folder = LOGS / "anthropic" / "session_orders-medium-2"
    runs = loaders.load(folder)
    row = runs.trajectories.collect().row(0, named=True)
    assert row["native_id"] == "orders-medium-2/clerk"
    metadata = json.loads(row["metadata"])
    session = json.loads((folder / "session.json").read_text())
    agent = json.loads((folder / "agents" / "agent_clerk" / "agent.json").read_text())
    assert metadata == {"simulated": True, "session": session, "agent": agent}
    stored = [json.loads(file.read_text()) for file in folder.rglob("message_*.json")]
    times = sorted(datetime.fromisoformat(one["created_at"]) for one in stored)
    assert (row["started_at"], row["ended_at"]) == (times[0], times[-1])
    steps = runs.steps.collect()
    assert steps["ended_at"].to_list() == times[1::2]
    assert steps["started_at"].to_list() == times[:-1:2]


def test_only_its_own_logs_are_claimed(real_logs: Path) -> None:
    assert not [p for p in real_logs.rglob("*") if p.is_file() and strands.sniff(Source(p).head)]
    files = sorted(LOGS.rglob("*.json"))
    assert len(files) > 20
    assert all(strands.sniff(Source(path).head) for path in files)
    assert not any(openai_chat.sniff(Source(path).head) for path in files)


# ---------------------------------------------------------------------- written here


def said(text: str) -> Object:
    return {"text": text}


def thought(text: str, signature: str | None = None) -> Object:
    signed = {"signature": signature} if signature else {}
    return {"reasoningContent": {"reasoningText": {"text": text, **signed}}}


def call(identity: str = "t1", **more: Any) -> Object:
    return {"toolUse": {"toolUseId": identity, "name": "ls", "input": {"path": "/"}, **more}}


def result(*content: Object, status: str = "success", identity: str = "t1") -> Object:
    return {"toolResult": {"toolUseId": identity, "status": status, "content": list(content)}}


def message(role: str, *content: Object, **more: Any) -> Object:
    return {"role": role, "content": list(content), **more}


def usage(asked: int, made: int, whole: int, **more: int) -> Object:
    counts = {"inputTokens": asked, "outputTokens": made, "totalTokens": whole, **more}
    return {"usage": counts, "metrics": {"latencyMs": 1500}}


def chat() -> list[Object]:
    failed = said("Error: TimeoutError - too slow")
    return [
        message("user", said("look")),
        message("assistant", thought("plan", "c2ln"), call(), metadata=usage(9, 4, 13)),
        message("user", result(failed, status="error")),
        message("assistant", said("<think>hm</think>no luck"), metadata=usage(0, 0, 0)),
    ]


EXPECTED = [
    ("user", None, "look", None, None, None),
    ("thinking", 0, "plan", None, None, None),
    ("tool_call", 0, None, None, None, None),
    ("tool_result", 0, "Error: TimeoutError - too slow", True, "TimeoutError", 2),
    ("thinking", 1, "hm", None, None, None),
    ("message", 1, "no luck", None, None, None),
]
COLUMNS = ("kind", "step", "text", "is_error", "error_type", "call_seq")


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def store(folder: Path, messages: list[Object], agent: str = "a", **more: Any) -> Path:
    """A session folder as the file session manager lays it out."""
    times = {"created_at": "2026-03-01T10:00:00+00:00", "updated_at": "2026-03-01T10:09:00+00:00"}
    top = folder / "session_s"
    write(top / "session.json", {"session_id": "s", "session_type": "AGENT", **times})
    place = top / "agents" / f"agent_{agent}"
    known: Object = {"agent_id": agent, "state": {"k": 1}, "conversation_manager_state": {}}
    write(place / "agent.json", {**known, **times})
    for number, one in enumerate(messages):
        at = {**times, "created_at": f"2026-03-01T10:00:{number:02}+00:00"}
        stored = {"message": one, "message_id": number, "redact_message": None, **at, **more}
        write(place / "messages" / f"message_{number}.json", stored)
    return top


@pytest.mark.parametrize("layout", ["list", "lines", "row", "session", "snapshot"])
def test_messages_in_every_layout(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "log.json"
    if layout == "session":
        path = store(tmp_path, chat())
    elif layout == "lines":
        path.write_text("\n".join(json.dumps(one) for one in chat()))
    else:
        snapshot = {"scope": "agent", "schema_version": "1.0", "data": {"messages": chat()}}
        row = {"task_id": "t1", "reward": 1, "messages": chat()}
        write(path, {"list": chat(), "row": row, "snapshot": snapshot}[layout])
    runs = loaders.load(path)
    assert events(runs, *COLUMNS) == EXPECTED
    steps = runs.steps.collect()
    assert steps["input_tokens"].to_list() == [9, None]
    assert steps["thinking"].to_list() == ["text", "tagged_in_text"]
    assert events(runs, "signature")[1] == ("c2ln",)
    row = runs.trajectories.collect().row(0, named=True)
    assert row["task_id"] == ("t1" if layout == "row" else None)
    assert row["outcome"] == ("success" if layout == "row" else "unknown")
    if layout == "session":  # the first call took 1.5 s; the time of the second is not known
        seconds = steps.select((steps["ended_at"] - steps["started_at"]).dt.total_milliseconds())
        assert seconds["ended_at"].to_list() == [1500, 1500]
    assert runs.problems.collect().height == 0


def test_messages_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    many = [message("user", said(f"turn {n}")) for n in range(12)]
    folder = store(tmp_path, many)
    assert [text for (text,) in events(loaders.load(folder), "text")] == [
        f"turn {n}" for n in range(12)
    ]
    (folder / "agents" / "agent_a" / "messages" / "message_3.json").unlink()
    runs = loaders.load(folder)
    assert len(events(runs, "text")) == 11
    assert runs.problems.collect()["reason"].to_list() == ["1 of 12 numbered messages are missing"]


def test_each_agent_of_a_session_is_a_run(tmp_path: Path) -> None:
    folder = store(tmp_path, chat(), agent="b")
    store(tmp_path, chat()[:1], agent="a")
    graph = {"type": "graph", "id": "g", "status": "completed"}
    write(folder / "multi_agents" / "multi_agent_g" / "multi_agent.json", graph)
    runs = loaders.load(tmp_path).trajectories.collect()
    assert runs.select("native_id", "steps").rows() == [("s/a", 0), ("s/b", 2)]
    assert json.loads(runs["metadata"][0])["multi_agents"]["multi_agent_g"]["status"] == "completed"


def test_messages_loaded_without_their_session_find_it(tmp_path: Path) -> None:
    messages = store(tmp_path, chat()) / "agents" / "agent_a" / "messages"
    runs = loaders.load(messages)
    assert events(runs, *COLUMNS) == EXPECTED
    assert runs.trajectories.collect()["native_id"].to_list() == ["s/a"]
    shutil.move(messages, tmp_path / "elsewhere")
    runs = loaders.load(tmp_path / "elsewhere")
    assert events(runs, *COLUMNS) == EXPECTED
    assert runs.trajectories.collect()["native_id"].to_list() == ["elsewhere"]


def test_a_session_without_messages_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(loaders.LoadError, match="no run in it"):
        loaders.load(store(tmp_path, []))


def test_snapshots_of_one_agent_tell_each_message_once(tmp_path: Path) -> None:
    """The window of a later one has lost what an earlier one still had."""
    numbered = [{**one, "tracking_id": f"id-{n}"} for n, one in enumerate(chat())]
    folder = tmp_path / "session" / "s1" / "scopes" / "agent" / "helper" / "snapshots"

    def snapshot(messages: list[Object], **data: Any) -> Object:
        known = {"scope": "agent", "schema_version": "1.0", "created_at": "2026-03-01T10:00:00Z"}
        return {**known, "data": {"messages": messages, **data}, "app_data": {"note": 1}}

    write(folder / "immutable_history" / "snapshot_0001.json", snapshot(numbered[:3]))
    prompt = [{"text": "be kind"}]
    latest = snapshot(numbered[2:], system_prompt=prompt, state={"k": 2})
    write(folder / "snapshot_latest.json", latest)
    runs = loaders.load(tmp_path)
    assert events(runs, *COLUMNS)[1:] == [
        (*row, link if link is None else link + 1) for *row, link in EXPECTED
    ]
    assert events(runs, "kind", "text")[0] == ("system", "be kind")
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["native_id"], row["format_version"]) == ("s1/helper", "1.0")
    metadata = json.loads(row["metadata"])
    assert (metadata["data"], metadata["app_data"]) == ({"state": {"k": 2}}, {"note": 1})


@pytest.mark.parametrize(
    ("counts", "asked"),
    [
        (usage(3, 5, 18, cacheReadInputTokens=10), 13),
        (usage(13, 5, 18, cacheReadInputTokens=10), 13),
        (usage(3, 5, 20, cacheReadInputTokens=10, cacheWriteInputTokens=2), 15),
    ],
)
def test_cached_tokens_are_part_of_the_input(tmp_path: Path, counts: Object, asked: int) -> None:
    """With some providers they are counted in it, with others apart; the sum of all tells."""
    log = [message("assistant", said("hi"), metadata=counts)]
    steps = loaders.load(write(tmp_path / "m.json", log)).steps.collect()
    assert steps.select("input_tokens", "cached_tokens", "output_tokens").row(0) == (asked, 10, 5)


def test_other_blocks(tmp_path: Path) -> None:
    sealed = {"redactedContent": {"__bytes_encoded__": True, "data": "eno="}}
    picture = {"image": {"format": "png", "source": {"bytes": {"data": "eHg="}}}}
    log = [
        message("user", said("see"), picture, {"cachePoint": {"type": "default"}}),
        message("assistant", {"reasoningContent": sealed}, call(reasoningSignature="c2c=")),
        message("user", result({"json": {"n": 1}}, picture)),
        message("assistant", call("t2", reasoningSignature="c2c=")),
    ]
    runs = loaders.load(write(tmp_path / "m.json", log))
    assert events(runs, "kind", "text", "thinking_state", "signature", "media") == [
        ("user", "see", None, None, None),
        ("user", None, None, None, ["image/png"]),
        ("thinking", None, "redacted", "eno=", None),
        ("tool_call", None, None, None, None),
        ("tool_result", '{"n":1}', None, None, ["image/png"]),
        ("thinking", None, "hidden", "c2c=", None),
        ("tool_call", None, None, None, None),
    ]
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["framework"], row["unanswered_calls"]) == (None, 1)


def test_what_a_guardrail_put_in_its_place(tmp_path: Path) -> None:
    redacted = message("user", said("[blocked]"))
    folder = store(tmp_path, [message("user", said("secret plan"))], redact_message=redacted)
    assert events(loaders.load(folder), "kind", "text", "actor") == [
        ("user", "secret plan", None),
        ("other", "[blocked]", "guardrail"),
    ]


def test_a_log_cut_short_and_a_broken_file_of_a_session(tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", chat())
    path.write_text(path.read_text()[:-90])
    runs = loaders.load(path)
    assert events(runs, *COLUMNS)[:4] == EXPECTED[:4]
    assert any("stands before it" in reason for reason in runs.problems.collect()["reason"])
    path.unlink()
    folder = store(tmp_path, chat())
    (folder / "agents" / "agent_a" / "messages" / "message_1.json").write_text('{"message": {"ro')
    runs = loaders.load(folder)
    assert [text for (text,) in events(runs, "text")] == [
        "look", "Error: TimeoutError - too slow", "hm", "no luck",
    ]  # fmt: skip
    assert runs.trajectories.collect()["orphan_results"].to_list() == [1]
    assert runs.problems.collect().height >= 1


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]], True])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    whole = chat()
    broken: list[Any] = [{**one, key: junk} for one in whole for key in one]
    for one in whole:
        for block in one["content"]:
            for key, inner in block.items():
                broken.append({**one, "content": [{key: junk}, junk]})
                if isinstance(inner, dict):
                    broken += [{**one, "content": [{key: {**inner, k: junk}}]} for k in inner]
        broken.append({**one, "metadata": {"usage": junk, "metrics": {"latencyMs": junk}}})
    log = [*whole, *broken, junk, message("user", said("one thing more"))]
    for value in (
        log,
        {"messages": log},
        {"scope": "agent", "schema_version": junk, "data": {"messages": log}},
    ):
        runs = loaders.load(write(tmp_path / "m.json", value))
        assert events(runs, "text")[-1] == ("one thing more",)
        assert not [r for r in runs.problems.collect()["reason"] if "Error:" in r]
    folder = store(tmp_path, chat())
    for path in folder.rglob("*.json"):
        stored = json.loads(path.read_text())
        write(
            path,
            {**stored, "message_id": junk, "created_at": junk, "agent_id": junk, "state": junk},
        )
    runs = loaders.load(folder)
    assert events(runs, "text")[-1] == ("no luck",)
    assert not [r for r in runs.problems.collect()["reason"] if "Error:" in r]
