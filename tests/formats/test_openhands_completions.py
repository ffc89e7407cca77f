"""OpenHands completion logs against the raw files, and folders of calls written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import openhands_completions
from loaders.sources import Source

NATIVE, TEXT = "llm-logs.json", "nonfncall-llm-logs.json"
CALL = "<function=bash>\n<parameter=command>{}</parameter>\n</function>"


@pytest.fixture(scope="module")
def folder(real_logs: Path) -> Path:
    return real_logs / "openhands_llm_completions"


@pytest.fixture(scope="module")
def runs(folder: Path) -> Trajectories:
    return loaders.load(folder / "*.json")


def one(runs: Trajectories, number: int) -> Trajectories:
    found = runs.trajectories.collect()["trajectory_id"][number]
    return runs.filter(pl.col("trajectory_id") == found)


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def log(path: Path, seconds: int, messages: list[Any], reply: Any, **more: Any) -> None:
    response = {"model": "m", "choices": [{"message": reply, "finish_reason": "stop"}]}
    record = {"messages": messages, "response": response, "args": [], "kwargs": {"top_p": 1.0}}
    name = f"proxy__m-17570150{seconds}.5.json"
    record = {**record, "timestamp": float(f"17570150{seconds}.5"), "cost": 0.5, **more}
    (path / name).write_text(json.dumps(record))


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


# ---------------------------------------------------------------------- real files


def test_native_calls_are_told_with_what_was_sent(runs: Trajectories, folder: Path) -> None:
    raw = json.loads((folder / NATIVE).read_text())
    own, messages = one(runs, 0), raw["messages"]
    replies = [m for m in messages if m["role"] == "assistant"]
    calls = [c for m in replies for c in m["tool_calls"]]
    last = raw["response"]["choices"][0]["message"]["tool_calls"]
    told = events(own, "tool_call")
    assert told["call_id"].to_list() == [c["id"] for c in (*calls, *last)]
    assert events(own, "tool_result").height == sum(m["role"] == "tool" for m in messages)
    step = own.steps.collect().row(-1, named=True)
    assert step["evidence"] == "wire"
    assert step["context"] == [{"start": 0, "stop": step["seq"]}]
    assert step["input_tokens"] == raw["response"]["usage"]["prompt_tokens"]
    assert step["output_tokens"] == raw["response"]["usage"]["completion_tokens"]
    seconds = (step["ended_at"] - step["started_at"]).total_seconds()
    assert seconds == pytest.approx(raw["latency_sec"], abs=1e-3)
    run = own.trajectories.collect().row(0, named=True)
    assert run["cost_usd"] == raw["cost"]
    assert json.loads(run["params"])["max_completion_tokens"] == 64000
    assert len(raw["tools"]) == runs.tools.collect().filter(toolset=run["toolset"]).height


def test_calls_and_results_in_text_become_calls_and_results(
    runs: Trajectories, folder: Path
) -> None:
    raw = json.loads((folder / TEXT).read_text())
    own = one(runs, 1)
    results = [m for m in raw["messages"] if m["content"].startswith("EXECUTION RESULT")]
    written = [m["content"] for m in raw["messages"] if m["role"] == "assistant"]
    written.append(raw["raw_response"]["choices"][0]["message"]["content"])
    told, answers = events(own, "tool_call"), events(own, "tool_result")
    assert told["tool"].to_list() == [t.split("<function=")[1].split(">")[0] for t in written]
    assert answers["call_seq"].to_list() == told["seq"].to_list()[:-1]
    assert [m["content"].endswith(t) for m, t in zip(results, answers["text"], strict=True)]
    prose = [text for t in written if (text := t.split("<function=")[0].strip())]
    assert events(own, "message")["text"].to_list() == prose
    step = own.steps.collect().row(-1, named=True)
    assert (step["input_tokens"], step["cached_tokens"]) == (9204, 9024)
    for event in events(own).to_dicts():
        assert isinstance(own.raw(event["trajectory_id"], event["seq"]), str)


def test_only_completion_logs_are_recognised(real_logs: Path) -> None:
    def is_log(*parts: str) -> bool:
        return openhands_completions.sniff(Source(real_logs.joinpath(*parts)).head)

    assert is_log("openhands_llm_completions", NATIVE)
    assert is_log("openhands_llm_completions", TEXT)
    assert not is_log("openhands_v0", "output.jsonl")
    assert not is_log("swe_agent", "README.md")


# ---------------------------------------------------------------------- written here


def test_a_folder_is_rebuilt_and_dropped_thinking_is_seen(tmp_path: Path) -> None:
    first = said("assistant", "a", reasoning_content="secret plan")
    second = said("assistant", "b", reasoning_content="other plan")
    start = [said("system", "s"), said("user", "go")]
    log(tmp_path, 10, start, first)
    log(tmp_path, 20, [*start, first, said("user", "on")], second)
    bare = [said("assistant", [{"type": "text", "text": text}]) for text in "ab"]
    history = [*start, bare[0], said("user", "on"), bare[1], said("user", "more")]
    log(tmp_path, 30, history, said("assistant", "c"))
    runs = loaders.load(tmp_path)
    assert runs.trajectories.collect()["format"].to_list() == ["openhands_completions"]
    steps = runs.steps.collect()
    assert steps["evidence"].to_list() == ["wire"] * 3
    assert steps["thinking_available"].to_list() == [0, 1, 2]
    assert steps["thinking_sent"].to_list() == [0, 1, 0]
    assert steps["history_edit"].to_list()[1:] == ["none", "thinking_dropped"]
    assert events(runs, "user")["text"].to_list() == ["go", "on", "more"]
    run = runs.trajectories.collect().row(0, named=True)
    assert run["cost_usd"] == pytest.approx(1.5)


def test_text_calls_cut_by_the_stop_word_are_found_again(tmp_path: Path) -> None:
    start = [said("user", [{"type": "text", "text": "go"}])]
    cut = "Look.\n" + CALL.format("ls").removesuffix("\n</function>") + "\n</function"
    converted = {"fncall_messages": start, "fncall_response": {}}
    log(tmp_path, 10, start, said("assistant", cut), **converted)
    result = said("user", [{"type": "text", "text": "EXECUTION RESULT of [bash]:\nx"}])
    history = [*start, said("assistant", "Look.\n" + CALL.format("ls")), result]
    log(tmp_path, 20, history, said("assistant", "<function=bash> oops"), **converted)
    runs = loaders.load(tmp_path)
    frame = events(runs)
    assert frame["kind"].to_list() == ["user", "message", "tool_call", "tool_result", "message"]
    assert frame["text"].to_list()[1::2] == ["Look.", "x"]
    assert frame["arguments"].to_list()[2] == '{"command":"ls"}'
    assert frame["call_seq"].to_list()[3] == 2
    assert "oops" in frame["text"].to_list()[4]
    assert runs.steps.collect()["evidence"].to_list() == ["wire", "wire"]


def test_what_else_a_record_says_is_metadata(tmp_path: Path) -> None:
    tools = [{"function": {"name": name, "strict": name == "b"}} for name in "ab"]
    log(tmp_path, 10, [said("user", "go")], said("assistant", "a"), tools=tools, llm_path="chat")
    run = loaders.load(tmp_path).trajectories.collect().row(0, named=True)
    assert json.loads(run["metadata"]) == {"args": [], "llm_path": "chat", "strict_tools": ["b"]}


def test_hostile_and_broken_logs_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    log(tmp_path, 10, [said("user", "go")], said("assistant", "fine"))
    log(tmp_path, 11, [3, {"role": [], "content": 4}], [5], kwargs=[1], cost="x", latency_sec=-1)
    (tmp_path / "m-1757015012.json").write_text('{"messages": "none", "timestamp": 1}')
    (tmp_path / "m-1757015013.json").write_text('{"messages": [{"role": "user", "con')
    runs = loaders.load(tmp_path, format="openhands_completions")
    assert "fine" in events(runs, "message")["text"].to_list()
    assert runs.problems.collect().height >= 2
