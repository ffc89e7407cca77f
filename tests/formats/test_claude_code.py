"""Claude Code sessions against figures counted from the raw files, and every quirk of the format."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import claude_code
from loaders.sources import Source

Record = dict[str, Any]
REFERENCE = "worktrees/ef958aa1-0e93-49f0-bb71-150f63befcd1.jsonl"
OLD = "fe869ecb-c176-478f-9734-7e4b8ef12cff.jsonl"
PLAIN_THINKING = "7acd37a8-2745-4b58-a8a9-46164b22ad9e.jsonl"
EDITED = "03eb5929-52b3-4b13-ada3-b93ae35806b8.jsonl"
DRIFT = "schema_drift_2026.jsonl"


@pytest.fixture(scope="module")
def folder(real_logs: Path) -> Path:
    return real_logs / "claude_code"


@pytest.fixture(scope="module")
def runs(folder: Path) -> Trajectories:
    return loaders.load(folder)


def raw_lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def of_file(runs: Trajectories, name: str) -> Trajectories:
    return runs.filter(pl.col("source").str.ends_with(name))


def events_of(runs: Trajectories, *kinds: str) -> list[Record]:
    events = runs.events.collect()
    return [e for e in events.iter_rows(named=True) if not kinds or e["kind"] in kinds]


# ---------------------------------------------------------------------- real sessions


def test_the_last_usage_of_a_message_is_the_true_one(runs: Trajectories, folder: Path) -> None:
    replies = [r["message"] for r in raw_lines(folder / REFERENCE) if r["type"] == "assistant"]
    assert sum(m["usage"]["output_tokens"] for m in replies) == 121_943
    session = of_file(runs, REFERENCE)
    assert session.trajectories.collect()["output_tokens"].to_list() == [22_901]
    steps = session.steps.collect()
    assert steps["output_tokens"].sum() == 22_901
    assert steps.height == len({m["id"] for m in replies}) == 17


@pytest.mark.parametrize("name", [REFERENCE, OLD, PLAIN_THINKING, EDITED])
def test_every_call_block_error_and_token_is_there(
    runs: Trajectories, folder: Path, name: str
) -> None:
    lines = raw_lines(folder / name)
    last = {r["message"]["id"]: r["message"] for r in lines if r["type"] == "assistant"}
    replies = [b for r in lines if r["type"] == "assistant" for b in r["message"]["content"]]
    asked = [
        b
        for r in lines
        if r["type"] == "user"
        for b in (
            r["message"]["content"]
            if isinstance(r["message"]["content"], list)
            else [{"type": "text", "text": r["message"]["content"]}]
        )
    ]
    blocks = Counter(b["type"] for b in replies)
    stopped = sum(b.get("text", "").startswith("[Request interrupted") for b in asked)
    session = of_file(runs, name)
    kinds = Counter(e["kind"] for e in events_of(session))
    assert kinds["thinking"] == blocks["thinking"]
    assert kinds["message"] == blocks["text"]
    assert kinds["tool_call"] == blocks["tool_use"]
    assert kinds["tool_result"] == sum(b["type"] == "tool_result" for b in asked)
    assert kinds["user"] == sum(b["type"] == "text" for b in asked) - stopped
    assert kinds["error"] == stopped
    attached = sum(r["type"] == "attachment" for r in lines)
    assert sum(kinds.values()) == len(replies) + len(asked) + kinds["other"]
    assert (kinds["other"] > 0) == (attached > 0)
    failed = [e for e in events_of(session, "tool_result") if e["is_error"]]
    assert len(failed) == sum(b.get("is_error") is True for b in asked)
    run = session.trajectories.collect().row(0, named=True)
    usages = [m["usage"] for m in last.values()]
    assert run["steps"] == len(last)
    assert run["cached_tokens"] == sum(u["cache_read_input_tokens"] for u in usages)
    assert run["output_tokens"] == sum(u["output_tokens"] for u in usages)
    inputs = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    assert run["input_tokens"] == sum(u[key] for u in usages for key in inputs)
    assert run["unanswered_calls"] == run["orphan_results"] == 0
    assert {run["model"]} == {m["model"] for m in last.values()}
    assert run["native_id"] == name.rpartition("/")[2].removesuffix(".jsonl")
    assert (run["framework"], run["framework_version"]) == (
        "claude-code",
        next(r["version"] for r in lines if "version" in r),
    )


def test_hollow_thinking_is_hidden_and_plain_thinking_text(runs: Trajectories) -> None:
    states = {
        name: Counter(e["thinking_state"] for e in events_of(of_file(runs, name), "thinking"))
        for name in (REFERENCE, PLAIN_THINKING, OLD, EDITED)
    }
    assert states[REFERENCE] == {"hidden": 14}
    assert states[PLAIN_THINKING] == {"text": 36}
    assert states[OLD] == {"text": 20}
    assert states[EDITED] == {"text": 6}
    steps = of_file(runs, REFERENCE).steps.collect()
    assert Counter(steps["thinking"]) == {"hidden": 14, "absent": 3}
    assert steps["thinking_available"].max() == 14
    for column in ("thinking_sent", "context", "history_edit"):
        assert steps[column].null_count() == steps.height
    assert steps["evidence"].unique().to_list() == ["unknown"]
    hidden = events_of(of_file(runs, REFERENCE), "thinking")
    assert all(e["text"] is None and len(e["signature"]) > 100 for e in hidden)


def test_the_blocks_of_a_call_stand_together(runs: Trajectories, folder: Path) -> None:
    lines = raw_lines(folder / REFERENCE)
    at = {i: r["message"]["id"] for i, r in enumerate(lines) if r["type"] == "assistant"}
    split = {
        a for (i, a), (j, b) in zip(list(at.items()), list(at.items())[1:], strict=False)
        if a == b and any(lines[k]["type"] == "user" for k in range(i, j))
    }  # fmt: skip
    assert len(split) >= 5
    events = of_file(runs, REFERENCE).events.collect().filter(pl.col("step").is_not_null())
    for _, part in events.filter(pl.col("kind") != "other").group_by("step"):
        kinds = "".join("r" if k in ("tool_result", "user") else "c" for k in part["kind"])
        assert "rc" not in kinds, "the model emitted all of a call before it saw a result"
    assert events["seq"].is_sorted()
    assert events["step"].is_sorted()


def test_every_event_leads_back_to_its_raw_record(runs: Trajectories, folder: Path) -> None:
    for name in (REFERENCE, PLAIN_THINKING, DRIFT):
        lines = raw_lines(folder / name)
        told = events_of(of_file(runs, name))
        for event in told:
            line, *path = event["source_pos"].removeprefix("L").split("/")
            value: Any = lines[int(line) - 1]
            for token in path:
                value = value[int(token)] if isinstance(value, list) else value[token]
            block = value if isinstance(value, dict) else {"text": value}
            if event["kind"] in ("user", "message"):
                assert block.get("text") == event["text"]
            elif event["kind"] == "thinking":
                assert (block["thinking"] or None) == event["text"]
            elif event["kind"] == "tool_call":
                assert json.loads(event["arguments"]) == block["input"]
                assert block["name"] == event["tool"]
            elif event["kind"] == "tool_result":
                assert block.get("tool_use_id") == event["call_id"]
    run = of_file(runs, REFERENCE)
    last = events_of(run, "tool_result")[-1]
    assert run.raw(run.ids[0], last["seq"])["tool_use_id"] == last["call_id"]


def test_results_carry_what_the_harness_noted(runs: Trajectories, folder: Path) -> None:
    lines = raw_lines(folder / REFERENCE)
    noted = {
        block["tool_use_id"]: r["toolUseResult"]["totalDurationMs"] / 1000
        for r in lines
        if isinstance(r.get("toolUseResult"), dict) and "totalDurationMs" in r["toolUseResult"]
        for block in r["message"]["content"]
    }
    timed = {
        e["call_id"]: e["duration_s"]
        for e in events_of(of_file(runs, REFERENCE), "tool_result")
        if e["duration_s"] is not None
    }
    assert timed == noted
    assert len(timed) == 6
    searches = [e for e in events_of(of_file(runs, PLAIN_THINKING)) if e["truncated"] is not None]
    assert [(e["tool"], e["truncated"]) for e in searches] == [("Glob", False)] * 2


def test_an_interruption_is_an_error_of_its_own_kind(runs: Trajectories) -> None:
    session = of_file(runs, PLAIN_THINKING)
    (stop,) = events_of(session, "error")
    assert (stop["error_type"], stop["actor"]) == ("interrupted", "user")
    run = session.trajectories.collect().row(0, named=True)
    assert (run["outcome"], run["end_reason"]) == ("unknown", "end_turn"), "the user went on"


def test_an_edited_turn_is_kept_and_mentioned(runs: Trajectories, folder: Path) -> None:
    parents = Counter(
        r["parentUuid"] for r in raw_lines(folder / EDITED)
        if r["type"] == "user" and not r.get("isMeta") and isinstance(r["message"]["content"], str)
    )  # fmt: skip
    assert max(parents.values()) == 2
    problems = runs.problems.filter(pl.col("source").str.ends_with(EDITED)).collect()
    assert problems["severity"].to_list() == ["warning"]
    assert problems["position"].to_list() == ["L38"]
    prompts = [e for e in events_of(of_file(runs, EDITED), "user") if e["actor"] is None]
    assert {"L18/message/content", "L38/message/content"} <= {e["source_pos"] for e in prompts}


def test_subagents_are_linked_to_the_call_that_started_them(
    runs: Trajectories, folder: Path
) -> None:
    started = {
        r["toolUseResult"]["agentId"]: r["message"]["content"][0]["tool_use_id"]
        for r in raw_lines(folder / REFERENCE)
        if isinstance(r.get("toolUseResult"), dict) and "agentId" in r["toolUseResult"]
    }
    parent = of_file(runs, REFERENCE)
    calls = {e["call_id"]: e["seq"] for e in events_of(parent, "tool_call") if e["tool"] == "Agent"}
    children = runs.trajectories.filter(pl.col("source").str.contains("/ef958aa1.*/subagents/"))
    linked = {
        row["native_id"]: (row["parent_id"], row["parent_seq"])
        for row in children.collect().iter_rows(named=True)
    }
    assert len(started) == 6
    assert linked == {agent: (parent.ids[0], calls[call]) for agent, call in started.items()}
    sessions = {json.loads(text)["session_id"] for text in children.collect()["metadata"]}
    assert sessions == {parent.trajectories.collect()["native_id"].item()}
    tokens = children.collect().sort("native_id")["output_tokens"].to_list()
    assert tokens == [2508, 7923, 6475, 3122, 8156, 2373]


def test_a_subagent_alone_is_the_same_run_without_a_parent(
    runs: Trajectories, folder: Path
) -> None:
    (path,) = (folder / "worktrees").rglob("agent-a36efb2a1231c41e2.jsonl")
    alone = loaders.load(path).trajectories.collect()
    together = runs.trajectories.filter(pl.col("native_id") == "a36efb2a1231c41e2").collect()
    assert alone["parent_id"].to_list() == [None]
    assert alone["trajectory_id"].to_list() == together["trajectory_id"].to_list()
    assert alone["events"].to_list() == together["events"].to_list()


def test_links_do_not_depend_on_the_order_of_files(
    runs: Trajectories, folder: Path, tmp_path: Path
) -> None:
    for path in (folder / "worktrees").rglob("*.jsonl"):
        is_child = path.name.startswith("agent-")
        (tmp_path / ("a" if is_child else "z")).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / ("a" if is_child else "z") / path.name)
    moved = loaders.load(tmp_path).trajectories.collect()
    here = runs.trajectories.filter(pl.col("source").str.contains("/worktrees/")).collect()
    columns = ("trajectory_id", "parent_id", "parent_seq")
    assert moved["source"][0].rpartition("/")[2].startswith("agent-")
    assert set(moved.select(columns).iter_rows()) == set(here.select(columns).iter_rows())


def test_the_note_beside_a_subagent_belongs_to_it(runs: Trajectories, folder: Path) -> None:
    child = runs.filter(native_id="a0ad4f44468bdf20d")
    metadata = json.loads(child.trajectories.collect()["metadata"].item())
    assert metadata["agent_type"] == "general-purpose"
    assert child.steps.collect()["agent"].to_list() == ["general-purpose"]
    (note,) = folder.rglob("*.meta.json")
    assert runs.problems.filter(source=note.as_posix()).collect().is_empty()


def test_every_record_type_up_to_2_1_220(runs: Trajectories, folder: Path) -> None:
    main, side = (of_file(runs, DRIFT)[run] for run in of_file(runs, DRIFT).ids)
    kinds = Counter(e["kind"] for e in events_of(main))
    assert kinds == {
        "user": 11, "message": 2, "thinking": 5, "tool_call": 2, "tool_result": 1,
        "error": 9, "compaction": 2, "other": 24,
    }  # fmt: skip
    assert Counter(e["error_type"] for e in events_of(main, "error")) == {
        "api_refusal": 1, "429": 1, "api_error": 3, "authentication_error": 1,
        "hook_non_blocking_error": 1, "hook_blocking_error": 1, "model_refusal_fallback": 1,
    }  # fmt: skip
    others = Counter(e["error_type"] for e in events_of(main, "other"))
    attached = (r["attachment"] for r in raw_lines(folder / DRIFT) if r["type"] == "attachment")
    known = {e["type"] for e in attached if len([v for v in e.values() if v]) > 1}
    assert others.keys() >= {"synthetic", "fallback", "nested_memory", "skill_listing"}
    assert others.keys() - {"synthetic", "fallback"} <= known
    assert sum(e["media"] == ["[trimmed for fixture]"] for e in events_of(main, "user")) == 2
    models = [r for r in raw_lines(folder / DRIFT) if r["type"] == "assistant"]
    named = {r["message"].get("model") for r in models} - {None, "<synthetic>"}
    assert set(main.steps.collect()["model"]) == named
    first = events_of(main, "compaction")[0]["seq"]
    steps = main.steps.collect()
    assert (steps["history_edit"].eq_missing("compacted") == (steps["seq"] > first)).all()
    assert (steps["seq"] > first).any()
    (rejected,) = (e for e in events_of(side, "tool_result") if e["is_error"])
    assert rejected["error_type"] == "user-rejected"
    assert side.steps.collect()["error"].to_list() == [None, None, "aborted_mid_stream"]
    metadata = json.loads(main.trajectories.collect()["metadata"].item())
    assert metadata["not_told"]["file-history-snapshot"] == 1
    told = {e["source_pos"].split("/")[0] for r in (main, side) for e in events_of(r)}
    both = [json.loads(r.trajectories.collect()["metadata"].item()) for r in (main, side)]
    told |= {f"L{record['line']}" for notes in both for record in notes.get("records", ())}
    counted = sum(sum(notes.get("not_told", {}).values()) for notes in both)
    assert len(told) + counted == len(raw_lines(folder / DRIFT)), "no line is lost silently"


def test_sniff_knows_its_own_files_from_all_others(real_logs: Path) -> None:
    own: set[str] = set()
    for path in real_logs.rglob("*"):
        if path.is_file() and path.stat().st_size and claude_code.sniff(Source(path).head):
            own.add(path.relative_to(real_logs).as_posix())
    expected = (real_logs / "claude_code").rglob("*.jsonl")
    assert own == {path.relative_to(real_logs).as_posix() for path in expected}


# ---------------------------------------------------------------------- inputs of our own


def line(kind: str, uuid: str = "u", parent: str | None = None, **more: Any) -> Record:
    return {
        "parentUuid": parent, "isSidechain": False, "cwd": "/w", "sessionId": "s1",
        "version": "2.1.0", "gitBranch": "main", "type": kind, "uuid": uuid,
        "timestamp": "2026-01-01T00:00:00Z", **more,
    }  # fmt: skip


def prompt(text: str = "go", **more: Any) -> Record:
    return line("user", message={"role": "user", "content": text}, **more)


def reply(message_id: str, *blocks: Any, usage: Any = None, **more: Any) -> Record:
    message = {"id": message_id, "model": "m", "role": "assistant", "content": list(blocks)}
    message |= more.pop("message", {})
    return line("assistant", message={**message, "usage": usage or {"output_tokens": 1}}, **more)


def say(text: str) -> Record:
    return {"type": "text", "text": text}


def use(call_id: str, name: str = "Bash", **arguments: Any) -> Record:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def answer(call_id: str, content: Any = "ok", noted: Any = None, **block: Any) -> Record:
    result = {"type": "tool_result", "tool_use_id": call_id, "content": content, **block}
    more = {} if noted is None else {"toolUseResult": noted}
    return line("user", message={"role": "user", "content": [result]}, **more)


def attach(kind: str, **more: Any) -> Record:
    rendered = more.pop("rendered", None)
    extra = {} if rendered is None else {"rendered": rendered}
    return line("attachment", attachment={"type": kind, **more}, **extra)


def load(tmp_path: Path, *records: Record | str, name: str = "s.jsonl") -> Trajectories:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [r if isinstance(r, str) else json.dumps(r) for r in records]
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return loaders.load(path)


def run_of(runs: Trajectories) -> Record:
    return runs.trajectories.collect().row(0, named=True)


def metadata_of(runs: Trajectories) -> Record:
    return json.loads(run_of(runs)["metadata"])


def test_lines_of_calls_that_are_mixed_up_are_told_call_by_call(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        prompt(),
        reply("A", say("a1"), usage={"output_tokens": 1}),
        reply("B", say("b1"), usage={"output_tokens": 5}),
        reply("A", use("c1", command="ls"), usage={"output_tokens": 9}),
        answer("c1"),
        reply("A", use("c2"), usage={"output_tokens": 7, "input_tokens": 2}),
        answer("c2"),
    )
    told = [(e["kind"], e["step"]) for e in events_of(runs)]
    assert told == [
        ("user", None), ("message", 0), ("tool_call", 0), ("tool_call", 0), ("message", 1),
        ("tool_result", 1), ("tool_result", 1),
    ]  # fmt: skip
    assert runs.steps.collect()["output_tokens"].to_list() == [7, 5]
    assert runs.steps.collect()["input_tokens"].to_list() == [2, None]


def test_a_result_before_its_call_is_still_its_answer(tmp_path: Path) -> None:
    runs = load(tmp_path, prompt(), answer("c1", "early"), reply("A", use("c1")), answer("c9"))
    told = [(e["kind"], e["call_seq"]) for e in events_of(runs)]
    assert told == [("user", None), ("tool_call", None), ("tool_result", 1), ("tool_result", None)]
    assert (run_of(runs)["unanswered_calls"], run_of(runs)["orphan_results"]) == (0, 1)


def test_the_kinds_of_thinking(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        reply("A", {"type": "thinking", "thinking": "plain", "signature": "x"}),
        reply("B", {"type": "thinking", "thinking": "", "signature": "sig"}),
        reply("C", {"type": "redacted_thinking", "data": "blob"}),
        reply("D", say("no thought")),
        reply("E", say("hm"), usage={"output_tokens_details": {"thinking_tokens": 40}}),
    )
    assert [(e["thinking_state"], e["text"], e["signature"]) for e in events_of(runs, "thinking")] == [
        ("text", "plain", "x"), ("hidden", None, "sig"), ("redacted", None, "blob"),
    ]  # fmt: skip
    steps = runs.steps.collect()
    assert steps["thinking"].to_list() == ["text", "hidden", "redacted", "absent", "not_logged"]
    assert steps["reasoning_tokens"].to_list() == [None, None, None, None, 40]
    assert steps["thinking_available"].to_list() == [0, 1, 2, 3, 3]


def test_what_is_noted_of_a_tool(tmp_path: Path) -> None:
    noted: list[tuple[Any, str, Record]] = [
        ({"stdout": "x", "interrupted": True, "durationMs": 1500}, "cut", {}),
        ({"exitCode": 3, "durationSeconds": 2.5, "truncated": True}, "x", {"is_error": True}),
        ("Error: Exit code 127", "Exit code 127\nno such command", {"is_error": True}),
        ("Error: bad", "<tool_use_error>bad</tool_use_error>", {"is_error": True}),
        ({"persistedOutputPath": "/tmp/out"}, "the beginning", {"is_error": False}),
        ({"stderr": "no", "is_error": True}, "no", {}),
        ([{"type": "text", "text": "from a server"}], "from a server", {}),
        ("- a listing", "Exit code 5 is what I printed", {}),
    ]
    calls = [reply(f"M{i}", use(f"c{i}")) for i in range(len(noted))]
    answers = [answer(f"c{i}", text, note, **more) for i, (note, text, more) in enumerate(noted)]
    runs = load(tmp_path, *(r for pair in zip(calls, answers, strict=True) for r in pair))
    columns = ("is_error", "error_type", "exit_code", "truncated", "duration_s")
    assert [tuple(e[c] for c in columns) for e in events_of(runs, "tool_result")] == [
        (None, "interrupted", None, None, 1.5),
        (True, None, 3, True, 2.5),
        (True, None, 127, None, None),
        (True, "tool_use_error", None, None, None),
        (False, None, None, True, None),
        (True, None, None, None, None),
        (None, None, None, None, None),
        (None, None, None, None, None),
    ]


def test_a_note_is_not_shared_between_several_results(tmp_path: Path) -> None:
    both = answer("c1", "one", {"durationMs": 100, "exitCode": 1})
    both["message"]["content"].append(
        {"type": "tool_result", "tool_use_id": "c2", "content": "two"}
    )
    runs = load(tmp_path, reply("A", use("c1"), use("c2")), both)
    results = events_of(runs, "tool_result")
    assert [(e["text"], e["duration_s"], e["exit_code"]) for e in results] == [
        ("one", None, None), ("two", None, None),
    ]  # fmt: skip
    assert [e["call_seq"] for e in results] == [0, 1]


def test_pictures_are_media(tmp_path: Path) -> None:
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "A"},
    }
    asked = line("user", message={"content": [say("look"), picture]})
    shown = answer("c1", [say("seen"), picture, {"type": "tool_reference", "tool_name": "Grep"}])
    runs = load(tmp_path, asked, reply("A", use("c1")), shown)
    told = [(e["kind"], e["text"], e["media"]) for e in events_of(runs)]
    assert told == [
        ("user", "look", None), ("user", None, ["image/png"]), ("tool_call", None, None),
        ("tool_result", "seen\nGrep", ["image/png"]),
    ]  # fmt: skip


def test_a_compaction_is_one_event_and_marks_the_calls_after_it(tmp_path: Path) -> None:
    boundary = line(
        "system", subtype="compact_boundary", content="Conversation compacted",
        logicalParentUuid="u", compactMetadata={"trigger": "auto", "preTokens": 155_000},
    )  # fmt: skip
    micro = line(
        "system", subtype="microcompact_boundary", content="micro", microcompactMetadata={}
    )
    runs = load(
        tmp_path,
        prompt(),
        reply("A", say("a")),
        boundary,
        prompt("The story so far", isCompactSummary=True),
        reply("B", say("b")),
        reply("C", say("c")),
        boundary,
        reply("D", say("d")),
        prompt("Older versions write no boundary", isCompactSummary=True),
        reply("E", say("e")),
        micro,
        reply("F", say("f")),
    )
    assert [(e["text"], e["source_pos"]) for e in events_of(runs, "compaction")] == [
        ("The story so far", "L4/message/content"),
        ("Conversation compacted", "L7"),
        ("Older versions write no boundary", "L9/message/content"),
        ("micro", "L11"),
    ]
    steps = runs.steps.collect()
    assert steps["history_edit"].to_list() == [
        None, "compacted", "compacted", "compacted", "compacted", "compacted",
    ]  # fmt: skip
    assert steps["evidence"].unique().to_list() == ["unknown"]
    assert metadata_of(runs)["compactions"][0] == {
        "line": 3, "kind": "compact_boundary", "trigger": "auto", "preTokens": 155_000,
    }  # fmt: skip
    only_prompt = load(tmp_path, prompt())
    assert run_of(runs)["user_prompt"] == run_of(only_prompt)["user_prompt"]


def test_what_the_log_itself_says_of_edits_to_a_request(tmp_path: Path) -> None:
    def edited(message_id: str, kind: str) -> Record:
        edits = {"context_management": {"applied_edits": [{"type": kind}]}}
        return reply(message_id, say(message_id), message=edits)

    runs = load(
        tmp_path,
        edited("A", "clear_thinking_20251015"),
        edited("B", "clear_tool_uses_20250919"),
        reply("C", say("c"), message={"context_management": {"applied_edits": []}}),
        attach("thinking_drop", requestId="r2", newlyDropped={"blockCount": 2}),
        reply("D", say("d"), requestId="r1"),
        reply("E", say("e"), requestId="r2"),
        attach("thinking_drop", requestId="r1"),
        attach("thinking_stripped", scope="session"),
    )
    steps = runs.steps.collect()
    assert steps["history_edit"].to_list() == [
        "thinking_dropped", "truncated", None, "thinking_dropped", "thinking_dropped",
    ]  # fmt: skip
    assert steps["thinking_sent"].null_count() == 5
    told = [e["error_type"] for e in events_of(runs, "other")]
    assert told == ["thinking_drop", "thinking_drop", "thinking_stripped"]


def test_errors_of_the_provider_and_what_stands_in_the_models_place(tmp_path: Path) -> None:
    retry = line(
        "system", subtype="api_error", level="error", retryAttempt=1,
        error={"status": 529, "error": {"error": {"type": "overloaded_error", "message": "busy"}}},
    )  # fmt: skip
    failed = reply("x1", say("API Error: gave up"), message={"model": "<synthetic>"})
    failed |= {"isApiErrorMessage": True, "error": "rate_limit"}
    placeholder = reply("x2", say("No response requested."), message={"model": "<synthetic>"})
    runs = load(tmp_path, prompt(), retry, failed, placeholder)
    assert [(e["kind"], e["text"], e["error_type"]) for e in events_of(runs)[1:]] == [
        ("error", "busy", "overloaded_error"),
        ("error", "API Error: gave up", "rate_limit"),
        ("other", "No response requested.", "synthetic"),
    ]
    run = run_of(runs)
    assert (run["steps"], run["outcome"], run["end_reason"]) == (0, "error", "api_error")
    assert run["model"] is None


def test_a_session_that_the_user_stopped_is_cancelled(tmp_path: Path) -> None:
    stop = line("user", message={"content": [say("[Request interrupted by user for tool use]")]})
    leave = [prompt("Caveat", isMeta=True), prompt("<command-name>/exit</command-name>")]
    stopped = load(tmp_path, prompt(), reply("A", use("c1")), stop, *leave)
    assert (run_of(stopped)["outcome"], run_of(stopped)["end_reason"]) == (
        "cancelled",
        "interrupted",
    )
    resumed = load(tmp_path, prompt(), stop, prompt("on"), reply("B", say("done")))
    assert (run_of(resumed)["outcome"], run_of(resumed)["end_reason"]) == ("unknown", None)
    ended = reply("B", say("done"), message={"stop_reason": "end_turn"})
    assert run_of(load(tmp_path, prompt(), ended))["end_reason"] == "end_turn"
    assert run_of(load(tmp_path, ended, prompt("one more thing")))["end_reason"] is None


def test_hooks_that_failed_are_errors_and_others_are_counted(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        prompt(),
        line("system", subtype="stop_hook_summary", hookErrors=[], preventedContinuation=False),
        line("system", subtype="stop_hook_summary", hookErrors=["boom", {"code": 1}, "end"]),
        line(
            "system", subtype="stop_hook_summary", hookErrors=[], preventedContinuation=True,
            stopReason="lint first",
        ),
        attach("hook_success", hookName="Stop", stdout="fine"),
        attach("hook_blocking_error", hookName="PreToolUse:Bash", blockingError={"blockingError": "no"}),
        attach("hook_non_blocking_error", stderr="oops", exitCode=1, durationMs=20),
        line("progress", data={"type": "agent_progress", "message": {"type": "assistant"}}),
        line("system", subtype="turn_duration", durationMs=5),
    )  # fmt: skip
    columns = ("text", "error_type", "exit_code", "duration_s", "actor")
    assert [tuple(e[c] for c in columns) for e in events_of(runs, "error")] == [
        ('boom\n{"code":1}\nend', "hook_error", None, None, "claude-code"),
        ("lint first", "hook_error", None, None, "claude-code"),
        ("no", "hook_blocking_error", None, None, "PreToolUse:Bash"),
        ("oops", "hook_non_blocking_error", 1, 0.02, "claude-code"),
    ]
    metadata = metadata_of(runs)
    assert metadata["not_told"] == {"progress": 1}
    (hook,) = events_of(runs, "other")
    assert (hook["error_type"], json.loads(hook["text"])["stdout"]) == ("hook_success", "fine")
    kinds = [record["subtype"] for record in metadata["records"]]
    assert sorted(kinds) == [*["stop_hook_summary"] * 3, "turn_duration"]
    assert metadata["records"][0]["durationMs"] == 5


def test_what_no_column_holds_is_in_the_metadata(tmp_path: Path) -> None:
    usage = {
        "output_tokens": 1, "service_tier": "batch", "cache_creation": {"ephemeral_5m_input_tokens": 7},
    }  # fmt: skip
    refusal = {"type": "refusal", "category": "x"}
    noted = {"userModified": True, "totalTokens": 5, "usage": {"input_tokens": 4}, "stdout": "no"}
    runs = load(
        tmp_path,
        prompt(permissionMode="plan"),
        reply("A", use("c1"), usage=usage, requestId="req_1", message={"stop_details": refusal}),
        answer("c1", "ok", noted),
        {"type": "permission-mode", "permissionMode": "acceptEdits", "sessionId": "s1"},
        {"type": "pr-link", "prNumber": 3, "sessionId": "s1"},
        prompt("more", cwd="/elsewhere"),
    )
    metadata = metadata_of(runs)
    assert metadata["request_ids"] == {"0": "req_1"}
    assert metadata["notes_of_calls"] == {"0": {"stop_details": refusal}}
    assert metadata["notes_of_results"] == {
        "c1": {"userModified": True, "totalTokens": 5, "usage": {"input_tokens": 4}}
    }
    assert (metadata["service_tier"], metadata["usage"]) == (
        ["batch"],
        {"ephemeral_5m_input_tokens": 7},
    )
    assert metadata["permission_mode"] == ["plan", "acceptEdits"]
    assert metadata["folders"] == ["/w", "/elsewhere"]
    assert metadata["records"] == [{"line": 5, "type": "pr-link", "prNumber": 3}]


def test_attachments_without_their_text_are_told_as_logged(tmp_path: Path) -> None:
    memory = {"path": "/w/CLAUDE.md", "content": {"content": "Be brief.", "base64": "AAAA"}}
    runs = load(tmp_path, prompt(), attach("nested_memory", **memory))
    (told,) = events_of(runs, "other")
    assert told["error_type"] == "nested_memory"
    assert json.loads(told["text"])["content"] == {"content": "Be brief."}


def test_nothing_of_the_real_logs_is_lost(folder: Path) -> None:
    assert loaders.coverage(folder, progress=False).lost.is_empty()


def test_what_late_versions_write_of_the_request(tmp_path: Path) -> None:
    tools = [{"name": "Bash", "description": "run", "schema": {"type": "object"}}]
    runs = load(
        tmp_path,
        prompt(effort="high", thinkingMetadata={"maxThinkingTokens": 31999}),
        attach("environment", snapshot={"platform": "linux", "shell": "bash"}),
        attach("prompt_snapshot", systemPrompt=["You are", "an agent"], tools=tools),
        reply("A", say("a")),
        attach("queued_command", prompt="also this", origin={"kind": "human"}),
        attach("queued_command", prompt=[say("done")], origin={"kind": "task-notification"}),
        attach("task_reminder", rendered=[{"content": "<system-reminder>todo</system-reminder>"}]),
        attach("task_reminder", content=[]),
        line("system", subtype="local_command", content="<command-name>/cost</command-name>"),
    )
    assert [(e["kind"], e["text"], e["actor"]) for e in events_of(runs)] == [
        ("user", "go", None),
        ("system", "You are\nan agent", None),
        ("message", "a", None),
        ("user", "also this", None),
        ("user", "done", "task-notification"),
        ("other", "<system-reminder>todo</system-reminder>", "claude-code"),
        ("user", "<command-name>/cost</command-name>", "claude-code"),
    ]
    assert runs.tools.select("name", "description", "parameters").collect().rows() == [
        ("Bash", "run", '{"type":"object"}')
    ]
    assert runs.steps.collect()["toolset"].null_count() == 0
    run = run_of(runs)
    assert run["system_prompt"] is not None
    assert run["toolset"] is not None
    assert json.loads(run["params"]) == {"effort": "high", "thinking": {"maxThinkingTokens": 31999}}
    assert run["environment"] != run_of(load(tmp_path, prompt()))["environment"]


def test_words_of_the_harness_are_not_the_users_prompt(tmp_path: Path) -> None:
    injected = prompt("Caveat: ...", isMeta=True)
    notified = prompt("task 1 is done", origin={"kind": "task-notification"})
    runs = load(tmp_path, injected, prompt("fix it"), notified)
    actors = [e["actor"] for e in events_of(runs, "user")]
    assert actors == ["claude-code", None, "task-notification"]
    plain = load(tmp_path, prompt("fix it"))
    assert run_of(runs)["user_prompt"] == run_of(plain)["user_prompt"]


def test_a_resumed_session_is_one_run_named_after_its_last_id(tmp_path: Path) -> None:
    summaries = [{"type": "summary", "summary": "another session", "leafUuid": "z"}] * 2
    runs = load(
        tmp_path, *summaries, prompt(sessionId="old"), reply("A", say("a"), sessionId="old"),
        prompt("again", sessionId="new"), reply("B", say("b"), sessionId="new"),
    )  # fmt: skip
    assert len(runs) == 1
    assert run_of(runs)["native_id"] == "new"
    assert metadata_of(runs)["session_id"] == ["old", "new"]
    assert [record["summary"] for record in metadata_of(runs)["records"]] == ["another session"] * 2
    assert not any("another session" in (e["text"] or "") for e in events_of(runs))


def test_a_file_of_summaries_alone_is_no_run_and_no_error(tmp_path: Path) -> None:
    load(tmp_path, prompt(), name="s.jsonl")
    (tmp_path / "t.jsonl").write_text('{"type":"summary","summary":"x","leafUuid":"z"}\n')
    problems = loaders.load(tmp_path).problems.collect()
    assert problems.select("severity", "format").rows() == [("warning", "claude_code")]


# ---------------------------------------------------------------------- subagents of our own


def test_subagents_inside_the_session_by_their_id(tmp_path: Path) -> None:
    side = {"isSidechain": True, "agentId": "ag1"}
    other = {"isSidechain": True, "agentId": "ag2"}
    runs = load(
        tmp_path,
        prompt(),
        reply("A", use("c1", "Task", prompt="p"), use("c2", "Task", prompt="p")),
        prompt("p", **side),
        prompt("p", **other),
        reply("S1", say("mine"), **side),
        reply("S2", say("yours"), **other),
        answer("c2", "done", {"agentId": "ag2", "totalDurationMs": 9}),
        answer("c1", "done", {"agentId": "ag1"}),
        reply("B", say("b")),
    )
    table = runs.trajectories.collect()
    assert table["native_id"].to_list() == ["s1", "ag1", "ag2"]
    parent = table["trajectory_id"][0]
    assert table["parent_id"].to_list() == [None, parent, parent]
    assert table["parent_seq"].to_list() == [None, 1, 2]
    assert table["steps"].to_list() == [2, 1, 1]


def test_old_subagents_inside_the_session_by_their_root_and_prompt(tmp_path: Path) -> None:
    side = {"isSidechain": True}
    runs = load(
        tmp_path,
        prompt(uuid="m1"),
        reply("A", use("c1", "Task", prompt="look"), uuid="m2", parent="m1"),
        reply("S2", say("late"), uuid="b2", parent="b1", **side),  # before its parent
        prompt("look", uuid="a1", **side),
        prompt("search", uuid="b1", **side),
        reply("S1", use("s1"), uuid="a2", parent="a1", **side),
        reply("A", use("c2", "Task", prompt="search"), uuid="m3", parent="m2"),
        {**answer("s1"), "uuid": "a3", "parentUuid": "a2", **side},
        answer("c1", "found"),
        answer("c2", "none"),
    )
    table = runs.trajectories.collect()
    by_id = {row["native_id"]: row for row in table.iter_rows(named=True)}
    assert set(by_id) == {"s1", "a1", "b1"}
    assert {k: (r["parent_seq"], r["events"]) for k, r in by_id.items() if k != "s1"} == {
        "a1": (1, 3), "b1": (2, 2),
    }  # fmt: skip
    assert by_id["a1"]["parent_id"] == by_id["b1"]["parent_id"] == by_id["s1"]["trajectory_id"]


def test_a_subagents_log_and_note_in_an_archive(tmp_path: Path) -> None:
    child = [prompt("p", isSidechain=True, agentId="ag1"), reply("S", say("x"), isSidechain=True)]
    started = [prompt(), reply("A", use("c1", "Agent")), answer("c1", "x", {"agentId": "ag1"})]
    files = {
        "s1.jsonl": "\n".join(json.dumps(r) for r in started),
        "s1/subagents/agent-ag1.jsonl": "\n".join(json.dumps(r) for r in child),
        "s1/subagents/agent-ag1.meta.json": '{"agentType":"Explore","toolUseId":"c1"}',
    }
    with zipfile.ZipFile(tmp_path / "logs.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    runs = loaders.load(tmp_path / "logs.zip")
    assert runs.problems.collect().is_empty()
    table = runs.trajectories.collect().sort("parent_seq", nulls_last=True)
    assert table["native_id"].to_list() == ["ag1", "s1"]
    assert table["parent_seq"].to_list() == [1, None]
    metadata = json.loads(table["metadata"][0])
    assert (metadata["agent_type"], metadata["tool_use_id"]) == ("Explore", "c1")


def test_a_subagents_file_names_it_where_its_lines_do_not(tmp_path: Path) -> None:
    runs = load(tmp_path, prompt(isSidechain=True), prompt("two"), name="agent-77.jsonl")
    assert runs.trajectories.collect()["native_id"].to_list() == ["77"]
    assert len(events_of(runs)) == 2


def test_a_note_without_its_log_is_mentioned(tmp_path: Path) -> None:
    (tmp_path / "agent-1.meta.json").write_text('{"agentType":"Explore"}')
    (tmp_path / "chat.jsonl").write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
    with pytest.raises(loaders.LoadError, match="belongs to a claude_code log"):
        loaders.load(tmp_path / "agent-1.meta.json")


# ---------------------------------------------------------------------- hostile input


def test_broken_lines_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    runs = load(
        tmp_path, prompt(), '{"type": "user", "message": {', "[1, 2]", "", '"text"', "{}",
        reply("A", say("a")), json.dumps(reply("B", say("b")))[:-30],
    )  # fmt: skip
    problems = runs.problems.collect()
    assert problems["position"].to_list() == ["L2", "L3", "L5", "L8"]
    assert problems["severity"].unique().to_list() == ["error"]
    assert [e["text"] for e in events_of(runs)] == ["go", "a"]
    assert metadata_of(runs)["not_told"] == {"unknown": 1}


def test_wrong_types_cost_only_themselves(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        prompt(version=7, gitBranch=[], origin="me", thinkingMetadata=3, timestamp=12),
        reply("A", {"type": "thinking", "thinking": 5}, say("kept"), 7, None, usage={"output_tokens": "9"}),
        reply("B", say("also kept"), message={"stop_reason": 1, "usage": 3}, requestId=5),
        reply("C", {"type": "tool_use", "id": 3, "name": [], "input": "x"}),
        answer("c1", {"odd": 1}, {"durationMs": "long", "exitCode": 2}),
        answer("c2", [5, {"type": "text", "text": "part"}], [1, "two"]),
        line("user", message={"content": 5}),
        line("user", message="text"),
        line("assistant", message={"content": "in one piece", "id": "D", "model": "m"}),
        line("attachment", attachment=[]),
        attach("queued_command", prompt={"a": 1}, origin=3),
        attach("hook_blocking_error", blockingError=4, exitCode="x", hookName=[]),
        attach("prompt_snapshot", systemPrompt=[1], tools=[3]),
        line("system", subtype="api_error", error=[1]),
        line("system", subtype="compact_boundary", compactMetadata=3),
        line("system", subtype="stop_hook_summary", hookErrors="x"),
        {"type": ["user"], "sessionId": {}},
        prompt("last"),
    )  # fmt: skip
    texts = [e["text"] for e in events_of(runs, "message", "user")]
    assert [t for t in texts if t] == ["go", "kept", "also kept", "in one piece", "last"]
    results = events_of(runs, "tool_result")
    assert [(e["call_id"], e["exit_code"]) for e in results] == [("c1", None), ("c2", None)]
    assert (results[1]["text"], results[1]["media"]) == ("part", ["unknown"])
    assert run_of(runs)["ended_at"] is not None
    assert "Error" not in " ".join(runs.problems.collect()["reason"])


def test_numbers_and_letters_that_json_forbids(tmp_path: Path) -> None:
    text = json.dumps(reply("A", use("c1", value=0.5), say("half \ud83d pair")))
    runs = load(tmp_path, prompt(), text.replace("0.5", "NaN"))
    (call,) = events_of(runs, "tool_call")
    assert json.loads(call["arguments"]) == {"value": None}
    (message,) = events_of(runs, "message")
    assert message["text"].strip("\ufffd") == message["text"]
    assert message["text"].replace("\ufffd", "") == "half  pair"


def test_trees_that_are_deep_or_have_no_root(tmp_path: Path) -> None:
    deep = [
        prompt(str(i), uuid=f"d{i}", parent=f"d{i - 1}" if i else None, isSidechain=True)
        for i in range(20_000)
    ]
    ring = [
        prompt("x", uuid="r0", parent="r1", isSidechain=True),
        prompt("y", uuid="r1", parent="r0", isSidechain=True),
    ]
    stray = [prompt("z", uuid="q", parent="gone", isSidechain=True)]
    runs = load(tmp_path, *reversed(deep), *ring, *stray)
    table = runs.trajectories.collect().sort("events")
    assert table["events"].to_list() == [1, 2, 20_000]
    assert table["native_id"][0] == "q"
    assert table["native_id"][2] == "d0"


@pytest.mark.parametrize(
    "first",
    [
        {"type": "summary", "summary": "x", "leafUuid": "y"},
        {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}},
        {"type": "queue-operation", "operation": "enqueue", "sessionId": "s"},
        {"type": "permission-mode", "permissionMode": "plan", "sessionId": "s"},
    ],
)
def test_sniff_by_the_first_line_alone(tmp_path: Path, first: Record) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(first) + "\n" + json.dumps(prompt("long " * 20_000)) + "\n")
    assert claude_code.sniff(Source(path).head)


def test_sniff_of_a_first_line_longer_than_the_head(tmp_path: Path) -> None:
    runs = load(tmp_path, prompt("long " * 20_000), reply("A", say("a")))
    assert runs.trajectories.collect()["format"].to_list() == ["claude_code"]


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"summary","summary":"x"}',
        '{"uuid":"a","parentUuid":null,"sessionId":"s","type":"user","message":{"parts":[]}}',
        '{"sessionId":"s","projectHash":"p","messages":[]}',
        '{"type":"queue-operation"}',
        '["parentUuid","isSidechain"]',
        "parentUuid isSidechain",
    ],
)
def test_sniff_says_no(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(text + "\n")
    assert not claude_code.sniff(Source(path).head)
