"""Antigravity transcripts against counts of the raw steps, and transcripts written here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import antigravity
from loaders.sources import Source

REAL = ["cli_small", "cli_schema_drift"]
SKIPPED = {"small.md": "a document that the agent wrote, with no step of a conversation in it"}
NO_RESULTS = ("PLANNER_RESPONSE", "USER_INPUT", "CHECKPOINT", "CONVERSATION_HISTORY")


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


@pytest.mark.parametrize("name", REAL)
def test_every_step_is_there(real_logs: Path, name: str) -> None:
    path = real_logs / "other_cli" / "antigravity" / f"{name}.jsonl"
    lines = raw_lines(path)
    types = Counter(line["type"] for line in lines)
    replies = [line for line in lines if line["type"] == "PLANNER_RESPONSE"]
    results = [x for x in lines if x["source"] == "MODEL" and x["type"] not in NO_RESULTS]
    runs = loaders.load(path)
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    assert kinds["thinking"] == sum("thinking" in line for line in replies)
    assert kinds.get("message", 0) == sum("content" in line for line in replies)
    assert kinds.get("tool_call", 0) == sum(len(line.get("tool_calls", [])) for line in replies)
    assert kinds["tool_result"] == len(results)
    assert kinds["user"] == types["USER_INPUT"] + types["SYSTEM_MESSAGE"]
    assert kinds.get("compaction", 0) == types["CHECKPOINT"]
    assert row(runs)["steps"] == len(replies)
    told = events(runs, "tool_result")
    assert told["text"].to_list() == [line["content"] for line in results]
    cut = [
        "content" in line["truncated_fields"] if "truncated_fields" in line else None
        for line in results
    ]
    assert told["truncated"].to_list() == cut
    assert told["is_error"].null_count() == told.height  # all are DONE, which is no verdict
    assert runs.problems.collect().is_empty()


def test_results_answer_the_calls_of_the_last_reply(real_logs: Path) -> None:
    path = real_logs / "other_cli" / "antigravity" / "cli_small.jsonl"
    answerable = calls = 0
    for line in raw_lines(path):
        if line["type"] == "PLANNER_RESPONSE":
            calls = len(line.get("tool_calls", []))
        elif line["source"] == "MODEL" and calls:
            calls, answerable = calls - 1, answerable + 1
    runs = loaders.load(path)
    linked = events(runs, "tool_result")["call_seq"].drop_nulls()
    assert len(linked) == answerable == 2
    names = dict(events(runs, "tool_call").select("seq", "tool").iter_rows())
    assert [names[seq] for seq in linked] == ["list_dir", "write_file"]
    assert row(runs)["orphan_results"] == events(runs, "tool_result").height - answerable


def test_the_model_is_known_from_the_users_settings(real_logs: Path) -> None:
    folder = real_logs / "other_cli" / "antigravity"
    runs = loaders.load(folder / "cli_small.jsonl")
    words = raw_lines(folder / "cli_small.jsonl")[0]["content"].split(" to ")[-1]
    assert words.startswith(row(runs)["model"] + ".")
    assert set(steps(runs, "thinking")) == {"summary"}
    assert steps(runs, "history_edit") == [None, None, "compacted"]
    drift = loaders.load(folder / "cli_schema_drift.jsonl")
    assert (row(drift)["model"], steps(drift, "thinking")) == (None, ["text"])


def test_every_file_is_read_or_declared(real_logs: Path) -> None:
    folder = real_logs / "other_cli" / "antigravity"
    runs = loaders.load(folder)
    read = {Path(source).name for source in runs.trajectories.collect()["source"]}
    problems = runs.problems.collect()
    left = {Path(p["source"]).name: p["severity"] for p in problems.iter_rows(named=True)}
    assert read == {f"{name}.jsonl" for name in REAL}
    assert left == dict.fromkeys(SKIPPED, "skipped")
    assert read | left.keys() == {path.name for path in folder.iterdir()}


def test_places_lead_back(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "other_cli" / "antigravity" / "cli_small.jsonl")
    for event in runs.events.collect().iter_rows(named=True):
        raw = runs.raw(event["trajectory_id"], event["seq"])
        assert (raw if event["text"] is not None else raw.get("name")) in (
            event["text"],
            event["tool"],
        )


def test_only_own_files_are_recognised(real_logs: Path) -> None:
    said = {
        path.relative_to(real_logs).as_posix()
        for path in real_logs.rglob("*.json*")
        if path.is_file() and antigravity.sniff(Source(path).head)
    }
    assert said == {f"other_cli/antigravity/{name}.jsonl" for name in REAL}


# ---------------------------------------------------------------------- written here

CHILD = "019f0000-0000-7000-8000-000000000002"


def step(kind: str, source: str = "MODEL", **more: Any) -> dict[str, Any]:
    at = "2026-06-26T21:16:17Z"
    return {
        "step_index": 0,
        "source": source,
        "type": kind,
        "status": "DONE",
        "created_at": at,
    } | more


def reply(*tools: str, **more: Any) -> dict[str, Any]:
    return step(
        "PLANNER_RESPONSE", tool_calls=[{"name": t, "args": {"A": t}} for t in tools], **more
    )


def write(folder: Path, *lines: Any, name: str = "transcript.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    texts = [x if isinstance(x, str) else json.dumps(x) for x in lines]
    (folder / name).write_text("\n".join(texts))
    return folder / name


def logs_of(tmp_path: Path, conversation: str) -> Path:
    return tmp_path / "brain" / conversation / ".system_generated" / "logs"


def test_the_full_transcript_is_read_where_both_are_there(tmp_path: Path) -> None:
    folder = logs_of(tmp_path, "conv")
    write(folder, step("USER_INPUT", "USER_EXPLICIT", content="cut", truncated_fields=["content"]))
    write(
        folder, step("USER_INPUT", "USER_EXPLICIT", content="whole"), name="transcript_full.jsonl"
    )
    runs = loaders.load(tmp_path / "brain" / "*" / ".system_generated" / "logs" / "*.jsonl")
    assert events(runs)["text"].to_list() == ["whole"]
    assert events(runs)["source_pos"].to_list() == ["transcript_full.jsonl#L1/content"]
    assert runs.raw(runs.ids[0], 0) == "whole"
    assert row(runs)["native_id"] == "conv"
    (folder / "transcript_full.jsonl").unlink()
    short = loaders.load(folder)
    assert events(short).select("text", "truncated").rows() == [("cut", True)]


def test_results_in_the_order_of_the_calls(tmp_path: Path) -> None:
    runs = loaders.load(
        write(
            tmp_path,
            *(reply("view_file", "run_command", "grep_search"), step("VIEW_FILE", content="a")),
            step("RUN_COMMAND", content="b", status="ERROR"),
            *(reply("list_dir"), step("LIST_DIRECTORY", content="c", status="CANCELED")),
            step("TOOL_RESPONSE", "SYSTEM", content="d"),
        )
    )
    answers = events(runs, "tool_result")
    assert answers["call_seq"].to_list() == [0, 1, 5, None]
    assert answers["tool"].to_list() == ["view_file", "run_command", "list_dir", "TOOL_RESPONSE"]
    assert answers["is_error"].to_list() == [None, True, None, None]
    assert answers["error_type"].to_list() == [None, None, "cancelled", None]
    assert (row(runs)["unanswered_calls"], row(runs)["orphan_results"]) == (1, 1)


def test_steps_of_the_harness_and_replies_that_failed(tmp_path: Path) -> None:
    runs = loaders.load(
        write(
            tmp_path,
            step("EPHEMERAL_MESSAGE", "SYSTEM", content="note"),
            step("USER_INPUT", "USER_IMPLICIT", content="idle"),
            reply(thinking="t", truncated_fields=["thinking"], status="ERROR"),
            *(step("ERROR_MESSAGE", "SYSTEM", content="quota"), step("ODD", "SYSTEM", content="x")),
        )
    )
    frame = events(runs)
    assert frame["kind"].to_list() == ["user", "user", "thinking", "error", "other"]
    assert frame["actor"].to_list() == ["harness", "USER_IMPLICIT", None, "SYSTEM", "SYSTEM"]
    assert frame["truncated"].to_list()[2] is True
    assert (steps(runs, "error"), steps(runs, "stop_reason")) == (["ERROR"], ["ERROR"])


def test_a_subagent_finds_its_parent(tmp_path: Path) -> None:
    started = json.dumps([{"conversationId": CHILD, "state": "running"}])
    write(logs_of(tmp_path, "conv"), reply("invoke_subagent"), step("GENERIC", content=started))
    write(logs_of(tmp_path, CHILD), reply("view_file"))
    runs = loaders.load(tmp_path / "brain" / "*" / ".system_generated" / "logs" / "*.jsonl")
    by_name = {r["native_id"]: r for r in runs.trajectories.collect().iter_rows(named=True)}
    assert by_name[CHILD]["parent_id"] == by_name["conv"]["trajectory_id"]
    assert by_name[CHILD]["parent_seq"] == 0


def test_broken_lines_are_problems(tmp_path: Path) -> None:
    path = write(tmp_path, reply(content="a"), "[1]", '{"type":', {"x": 1}, reply(content="b"))
    runs = loaders.load(path)
    assert sorted(runs.problems.collect()["position"]) == ["L2", "L3", "L4"]
    assert events(runs)["text"].to_list() == ["a", "b"]


@pytest.mark.parametrize("hostile", [None, 5, "x", [], {}, True, [[]], [None], 2**70, "\ud800"])
def test_values_of_other_types_are_missing(tmp_path: Path, hostile: Any) -> None:
    keys = ("source", "status", "created_at", "content", "thinking", "tool_calls")
    kinds = ("PLANNER_RESPONSE", "USER_INPUT", "CHECKPOINT", "SYSTEM_MESSAGE", "GENERIC", hostile)
    lines = [step(kind, **dict.fromkeys((*keys, "truncated_fields"), hostile)) for kind in kinds]
    calls = step("PLANNER_RESPONSE", tool_calls=[{"name": hostile, "args": hostile}, hostile])
    path = write(
        tmp_path, reply(), *lines, calls, step("GENERIC", content=hostile), reply(content="e")
    )
    runs = loaders.load(path)
    assert events(runs, "message")["text"].to_list()[-1] == "e"
    assert not runs.problems.collect()["reason"].str.contains(r"\.py:\d+").any()
