"""Grok sessions against counts of the raw lines, and sessions written here for what those lack."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import grok
from loaders.sources import Source


def raw_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("folder", ["grok", "grok/subagent"])
def test_every_record_is_there(real_logs: Path, folder: str) -> None:
    path = real_logs / "other_cli" / folder / "chat_history.jsonl"
    lines = raw_lines(path)
    kinds = Counter(line["type"] for line in lines)
    calls = [call for line in lines for call in line.get("tool_calls", [])]
    backend = [line["kind"] for line in lines if line["type"] == "backend_tool_call"]
    runs = loaders.load(path)
    told = dict(runs.events.group_by("kind").len().collect().iter_rows())
    assert told["system"] == kinds["system"]
    assert told["user"] == kinds["user"]
    assert told.get("thinking", 0) == kinds["reasoning"]
    assert told["message"] == sum(bool(x["content"]) for x in lines if x["type"] == "assistant")
    assert told["tool_call"] == len(calls) + len(backend)
    assert told["tool_result"] == kinds["tool_result"]
    assert told.get("other", 0) == sum("prior_turn_interrupt" in line for line in lines)
    tools = [x["name"] for x in calls] + [x["tool_type"] for x in backend]
    assert sorted(events(runs, "tool_call")["tool"]) == sorted(tools)
    given = {call["id"]: call["arguments"] for call in calls}
    for event in events(runs, "tool_call").iter_rows(named=True):
        if event["call_id"] in given:
            assert event["arguments"] == given[event["call_id"]]
    run = row(runs)
    assert (run["unanswered_calls"], run["orphan_results"]) == (len(backend), 0)
    assert events(runs)["is_error"].null_count() == events(runs).height
    assert runs.problems.collect().is_empty()


@pytest.mark.parametrize("folder", ["grok", "grok/subagent"])
def test_what_the_summary_says(real_logs: Path, folder: str) -> None:
    path = real_logs / "other_cli" / folder
    summary = json.loads((path / "summary.json").read_text())
    run = row(loaders.load(path / "chat_history.jsonl"))
    assert (run["native_id"], run["model"]) == (summary["info"]["id"], summary["current_model_id"])
    assert run["format_version"] == str(summary["chat_format_version"])
    for column, key in {"started_at": "created_at", "ended_at": "updated_at"}.items():
        assert run[column].isoformat()[:19] == summary[key][:19]
    assert json.loads(run["params"])["reasoning_effort"] == [summary["reasoning_effort"]]
    metadata = json.loads(run["metadata"])
    for key in ("agent_name", "num_messages", "git_root_dir", "generated_title"):
        assert metadata[key] == summary[key]


def test_reasoning_is_a_summary_with_its_sealed_form(real_logs: Path) -> None:
    path = real_logs / "other_cli" / "grok" / "chat_history.jsonl"
    items = [line for line in raw_lines(path) if line["type"] == "reasoning"]
    runs = loaders.load(path)
    told = events(runs, "thinking")
    assert told["text"].to_list() == [item["summary"][0]["text"] for item in items]
    assert told["signature"].to_list() == [item["encrypted_content"] for item in items]
    assert steps(runs, "thinking") == ["summary", "absent", "summary"]
    assert steps(runs, "thinking_sent") == [None] * 3


def test_the_subagent_finds_its_parent(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "other_cli" / "grok").trajectories.collect()
    by_source = {Path(r["source"]).parent.name: r for r in runs.iter_rows(named=True)}
    assert by_source["subagent"]["parent_id"] == by_source["grok"]["trajectory_id"]
    assert by_source["subagent"]["parent_seq"] is None  # nothing says which call started it
    assert by_source["grok"]["parent_id"] is None


def test_only_own_files_are_recognised(real_logs: Path) -> None:
    heads = {
        path.relative_to(real_logs).as_posix(): Source(path).head
        for path in real_logs.rglob("*.json*")
        if path.is_file()
    }
    said = {name for name, head in heads.items() if grok.sniff(head)}
    folder = "other_cli/grok"
    assert said == {f"{folder}/chat_history.jsonl", f"{folder}/subagent/chat_history.jsonl"}
    beside = {name for name, head in heads.items() if grok.companion(head)}
    assert beside == {f"{folder}/summary.json", f"{folder}/subagent/summary.json"}


# ---------------------------------------------------------------------- written here

CHILD = "019f0000-0000-7000-8000-000000000002"


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "user", "content": [{"type": "text", "text": text}], **more}


def reply(text: str, *calls: tuple[str, str], **more: Any) -> dict[str, Any]:
    made = [{"id": i, "name": name, "arguments": "{}"} for i, name in calls]
    return {"type": "assistant", "content": text, "tool_calls": made, "model_id": "g", **more}


def result(identity: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_call_id": identity, "content": text, **more}


def reasoning(*texts: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": t} for t in texts],
        **more,
    }


def write(folder: Path, *lines: Any, **summary: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    texts = [x if isinstance(x, str) else json.dumps(x) for x in lines]
    (folder / "chat_history.jsonl").write_text("\n".join(texts))
    if summary:
        full = {"num_chat_messages": len(lines), **summary}
        (folder / "summary.json").write_text(json.dumps(full))
    return folder


def test_what_makes_a_model_call(tmp_path: Path) -> None:
    search = {"tool_type": "web_search", "id": "w", "action": {"type": "search", "query": "q"}}
    code = {"tool_type": "code_interpreter", "id": "k", "code": "1", "outputs": [{"logs": "1"}]}
    runs = loaders.load(
        write(
            tmp_path,
            *(user("go", prompt_index=0), reasoning("a"), reasoning(encrypted_content="e")),
            *({"type": "backend_tool_call", "kind": kind} for kind in (search, code)),
            *(reply("one", ("c", "ls")), result("c", "x", images=[{"type": "image"}])),
            *(reply("two"), reply("three")),
        )
    )
    assert events(runs)["step"].to_list() == [None, *[0] * 8, 1, 2]
    assert steps(runs, "thinking") == ["summary", "absent", "absent"]
    states = events(runs, "thinking")["thinking_state"].to_list()
    assert states == ["summary", "hidden"]
    calls = events(runs, "tool_call")
    assert [json.loads(text) for text in calls["arguments"]] == [search["action"], 1, {}]
    assert events(runs, "tool_result")["media"].to_list() == [None, ["image"]]
    assert row(runs)["unanswered_calls"] == 1


def test_turns_that_the_harness_wrote(tmp_path: Path) -> None:
    runs = loaders.load(
        write(
            tmp_path,
            user("rules", synthetic_reason="project_instructions"),
            user("summed up", synthetic_reason="compaction_meta"),
            *(user("on", prompt_index=3, prior_turn_interrupt="permission_rejected"), reply("a")),
            *({"type": "from_the_future", "data": 1}, reply("b")),
        )
    )
    frame = events(runs)
    kinds = ["user", "compaction", "other", "user", "message", "other", "message"]
    assert frame["kind"].to_list() == kinds
    actors = ["project_instructions", "compaction_meta", "user", None, None, "harness", None]
    assert frame["actor"].to_list() == actors
    assert frame["text"].to_list()[2] == "permission_rejected"
    assert steps(runs, "history_edit") == ["compacted", "compacted"]


def test_a_subagent_that_its_parent_keeps_a_note_of(tmp_path: Path) -> None:
    write(
        tmp_path / "p",
        *(user("go"), reply("", ("c1", "ls"), ("c2", "spawn_subagent"))),
        *(result("c1", CHILD), result("c2", f"subagent {CHILD} is done")),
        info={"id": "parent"},
    )
    note = {"parent_session_id": "parent", "subagent_type": "explore"}
    (tmp_path / "p" / "subagents" / CHILD).mkdir(parents=True)
    (tmp_path / "p" / "subagents" / CHILD / "meta.json").write_text(json.dumps(note))
    write(tmp_path / CHILD, user("look", prompt_index=0), reply("done"))
    write(
        tmp_path / "other", user("look"), reply("x"), info={"id": "o"}, parent_session_id="parent"
    )
    runs = loaders.load(tmp_path)
    assert runs.problems.collect().is_empty()
    by_name = {r["native_id"]: r for r in runs.trajectories.collect().iter_rows(named=True)}
    assert by_name[CHILD]["parent_id"] == by_name["parent"]["trajectory_id"]
    assert by_name[CHILD]["parent_seq"] == 2
    assert by_name["o"]["parent_id"] == by_name["parent"]["trajectory_id"]
    assert json.loads(by_name["parent"]["metadata"])["subagents"] == {CHILD: note}


def test_a_long_system_prompt_hides_all_else_from_detection(tmp_path: Path) -> None:
    system = {"type": "system", "content": "x" * 20_000}
    folder = write(tmp_path, system, user("go"), reply("a"))
    assert grok.sniff(Source(folder / "chat_history.jsonl").head)
    assert events(loaders.load(folder))["kind"].to_list() == ["system", "user", "message"]


def test_broken_lines_are_problems(tmp_path: Path) -> None:
    runs = loaders.load(write(tmp_path, reply("a"), "[1]", '{"type":', {"x": 1}, reply("b")))
    assert sorted(runs.problems.collect()["position"]) == ["L2", "L3", "L4"]
    assert row(runs)["source_pos"] == "L1"
    assert events(runs)["text"].to_list() == ["a", "b"]


@pytest.mark.parametrize("hostile", [None, 5, "x", [], {}, True, [[]], [None], 2**70, "\ud800"])
def test_values_of_other_types_are_missing(tmp_path: Path, hostile: Any) -> None:
    keys = ("content", "summary", "encrypted_content", "tool_calls", "model_id", "reasoning_effort")
    keys = (*keys, "kind", "tool_call_id", "images", "synthetic_reason", "prior_turn_interrupt")
    kinds = ("system", "user", "assistant", "reasoning", "tool_result", "backend_tool_call", "odd")
    lines = [{"type": kind, **dict.fromkeys(keys, hostile)} for kind in kinds]
    calls = {"type": "assistant", "content": "c", "tool_calls": [{"id": hostile, "name": hostile}]}
    summary = dict.fromkeys(("info", "created_at", "updated_at", "session_kind"), hostile)
    runs = loaders.load(write(tmp_path, reply("a"), *lines, calls, reply("end"), **summary))
    assert events(runs, "message")["text"].to_list()[-1] == "end"
    assert not runs.problems.collect()["reason"].str.contains(r"\.py:\d+").any()
