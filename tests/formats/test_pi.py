"""Pi sessions against counts of the raw lines, and sessions written here for what those lack."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

REAL = ["large-session.jsonl", "before-compaction.jsonl", "v3_fixture.jsonl"]


@pytest.mark.parametrize("name", REAL)
def test_every_message_call_and_token_is_there(real_logs: Path, name: str) -> None:
    path = real_logs / "pi" / name
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    messages = [entry["message"] for entry in entries if entry["type"] == "message"]
    roles = Counter(message["role"] for message in messages)
    replies = [message for message in messages if message["role"] == "assistant"]
    blocks = [block for reply in replies for block in reply["content"]]
    types = Counter(block["type"] for block in blocks)
    runs = loaders.load(path)
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    assert kinds.get("tool_call", 0) == types["toolCall"]
    assert kinds.get("tool_result", 0) == roles["toolResult"]
    assert kinds["message"] == types["text"]
    assert kinds["user"] == roles["user"] + roles["bashExecution"]
    thoughts = sum(bool(b.get("thinking") or b.get("thinkingSignature")) for b in blocks)
    assert kinds.get("thinking", 0) == thoughts
    assert kinds.get("error", 0) == sum("errorMessage" in reply for reply in replies)
    assert kinds.get("compaction", 0) == sum(entry["type"] == "compaction" for entry in entries)
    row = runs.trajectories.collect().row(0, named=True)
    assert row["steps"] == len(replies)
    usages = [reply["usage"] for reply in replies]
    assert row["output_tokens"] == sum(usage["output"] for usage in usages)
    assert row["input_tokens"] == sum(u["input"] + u["cacheRead"] + u["cacheWrite"] for u in usages)
    assert (row["cost_usd"] or 0) == pytest.approx(sum(u["cost"]["total"] for u in usages))
    called = {b["id"] for b in blocks if b["type"] == "toolCall"}
    answered = {m["toolCallId"] for m in messages if m["role"] == "toolResult"}
    assert (row["unanswered_calls"], row["orphan_results"]) == (len(called - answered), 0)
    failed = sum(message.get("isError", False) for message in messages)
    assert runs.events.filter(pl.col("is_error")).collect().height == failed
    assert runs.problems.collect().is_empty()


def test_the_real_sessions_have_what_makes_them_hard(real_logs: Path) -> None:
    runs = loaders.load([real_logs / "pi" / name for name in REAL])
    rows = runs.trajectories.collect()
    assert rows["unanswered_calls"].to_list()[0] > 0
    assert rows["format_version"].to_list() == ["1", "1", "3"]
    steps = runs.steps.collect()
    assert steps["history_edit"].drop_nulls().to_list() == ["compacted"] * 3
    assert steps["thinking_sent"].null_count() == steps.height
    aborted = steps.filter(pl.col("stop_reason") == "aborted", pl.col("input_tokens").is_null())
    assert aborted.height > 20
    times = runs.events.filter(pl.col("run") == 0).collect()["started_at"].drop_nulls().to_list()
    assert any(later < earlier for earlier, later in pairwise(times))


def test_a_compaction_of_version_1_keeps_the_lines_from_its_index(real_logs: Path) -> None:
    path = real_logs / "pi" / "before-compaction.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    places = [i for i, entry in enumerate(entries) if entry["type"] == "compaction"]
    runs = loaders.load(path)
    contexts = runs.steps.filter(pl.col("history_edit") == "compacted").collect()["context"]
    events = runs.events.filter(pl.col("source_pos").str.contains("^L")).collect()
    line_of = events["source_pos"].str.extract(r"^L(\d+)").cast(pl.Int64).to_list()
    for place, context in zip(places, contexts.to_list(), strict=True):
        first_kept = entries[place]["firstKeptEntryIndex"]
        assert line_of[context[0]["start"]] == first_kept + 1
        seen = [line_of[seq] for r in context for seq in range(r["start"], r["stop"])]
        assert place + 1 in seen
        assert not any(other + 1 in seen for other in places if other != place)


def test_every_event_leads_back_to_its_raw_record(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "pi" / "v3_fixture.jsonl")
    for seq, kind, text in runs.events.select("seq", "kind", "text").collect().iter_rows():
        raw = runs.raw(runs.ids[0], seq)
        assert text in (raw, *([raw[0]["text"]] if kind == "user" else ())) or kind == "other"


def test_sessions_of_openclaw(real_logs: Path) -> None:
    paths = sorted((real_logs / "other_cli" / "openclaw").glob("*.jsonl"))
    runs = loaders.load(paths)
    entries = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    roles = Counter(e["message"]["role"] for e in entries if e["type"] == "message")
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    injected = sum(e["type"] == "custom_message" for e in entries)
    assert kinds["user"] == roles["user"] + injected
    assert (kinds["system"], kinds["tool_result"]) == (roles["system"], roles["toolResult"])
    small = runs.filter(pl.col("native_id").str.ends_with("small"))
    assert contexts(small) == [[(1, 2)]]  # a change of model is a leaf of its own
    row = runs.trajectories.collect()
    assert row["steps"].sum() == roles["assistant"]
    assert row["orphan_results"].sum() == row["unanswered_calls"].sum() == 0


# ---------------------------------------------------------------------- written here


HEADER = {"type": "session", "id": "s", "cwd": "/w", "timestamp": "2026-01-01T00:00:00Z"}


def entry(role: str, content: Any, **more: Any) -> dict[str, Any]:
    outer = {key: more.pop(key) for key in ("id", "parentId") if key in more}
    return {"type": "message", **outer, "message": {"role": role, "content": content, **more}}


def load(tmp_path: Path, *entries: Any, header: Any = HEADER) -> Trajectories:
    lines = [e if isinstance(e, str) else json.dumps(e) for e in (header, *entries)]
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    return loaders.load(tmp_path)


def contexts(runs: Trajectories) -> list[Any]:
    column = runs.steps.collect()["context"].to_list()
    return [c if c is None else [(r["start"], r["stop"]) for r in c] for c in column]


def test_an_abandoned_branch_is_told_and_not_seen(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        entry("user", "q", id="a", parentId=None),
        entry("assistant", "one", id="b", parentId="a"),
        entry("user", "no", id="c", parentId="b"),
        entry("user", "instead", id="d", parentId="a"),
        entry("assistant", "two", id="e", parentId="d"),
        entry("assistant", "three", id="f", parentId="gone"),
        header={**HEADER, "version": 3},
    )
    assert runs.events.collect()["text"].to_list() == ["q", "one", "no", "instead", "two", "three"]
    assert contexts(runs) == [None, [(0, 1), (3, 4)], None]
    row = runs.trajectories.collect().row(0, named=True)
    assert json.loads(row["metadata"]) == {"branches_left": 2}


def test_a_result_may_hang_below_the_call_itself(tmp_path: Path) -> None:
    call = {"type": "toolCall", "id": "t", "name": "get", "arguments": {}}
    runs = load(
        tmp_path,
        entry("user", "q", id="a", parentId="s"),
        entry("assistant", [call], id="b", parentId="a"),
        entry("toolResult", "r", id="c", parentId="t", toolCallId="t"),
        entry("assistant", "done", id="d", parentId="c"),
    )
    assert contexts(runs) == [None, None]
    assert runs.trajectories.collect()["metadata"].to_list() == [None]


def test_a_compaction_of_the_tree_keeps_from_an_entry_on(tmp_path: Path) -> None:
    compaction = {"type": "compaction", "summary": "sum", "parentId": "b"}
    runs = load(
        tmp_path,
        entry("user", "q", id="a", parentId=None),
        entry("user", "r", id="b", parentId="a"),
        {**compaction, "id": "c", "firstKeptEntryId": "b"},
        entry("assistant", "one", id="d", parentId="c"),
        {**compaction, "id": "e", "parentId": "d", "firstKeptEntryId": "nowhere"},
        entry("assistant", "two", id="f", parentId="e"),
    )
    assert contexts(runs) == [[(1, 3)], None]
    assert runs.steps.collect()["history_edit"].to_list() == ["compacted", "compacted"]


def test_going_back_again_and_again_has_no_context_that_grows(tmp_path: Path) -> None:
    entries = [entry("user", "q", id="0", parentId=None)]
    for index in range(1, 400):
        entries.append(entry("user", "left", id=f"x{index}", parentId=f"{index - 1}"))
        entries.append(entry("assistant", "go", id=f"{index}", parentId=f"{index - 1}"))
    lengths = [0 if c is None else len(c) for c in contexts(load(tmp_path, *entries))]
    assert max(lengths) == 64
    assert lengths[-1] == 0


@pytest.mark.parametrize(
    ("block", "api", "expected"),
    [
        ({"thinking": "t", "thinkingSignature": "sig"}, "anthropic-messages", ("text", "sig")),
        ({"thinking": "t", "thinkingSignature": "{}"}, "openai-responses", ("summary", "{}")),
        ({"thinking": "t"}, "google-generative-ai", ("summary", None)),
        ({"thinking": "t", "thinkingSignature": "reasoning_content"}, "openai-completions",
         ("text", None)),
        ({"thinking": "", "thinkingSignature": "sig"}, "anthropic-messages", ("hidden", "sig")),
        ({"thinking": "", "thinkingSignature": "d", "redacted": True}, "anthropic-messages",
         ("redacted", "d")),
        ({"thinking": "", "thinkingSignature": ""}, "anthropic-messages", (None, None)),
    ],
)  # fmt: skip
def test_states_of_thinking(
    tmp_path: Path, block: dict[str, Any], api: str, expected: tuple[str | None, str | None]
) -> None:
    runs = load(tmp_path, entry("assistant", [{"type": "thinking", **block}], api=api))
    assert runs.events.collect().select("thinking_state", "signature").rows() == [expected]


def test_shell_commands_custom_messages_and_notes(tmp_path: Path) -> None:
    shell = {"command": "ls", "output": "a", "exitCode": 2, "truncated": False}
    runs = load(
        tmp_path,
        entry("bashExecution", None, **shell),
        entry("bashExecution", None, **shell, excludeFromContext=True),
        {"type": "custom_message", "customType": "hook", "content": "note", "display": True},
        {"type": "branch_summary", "summary": "left that"},
        {"type": "thinking_level_change", "thinkingLevel": "high"},
        {"type": "label", "label": "here"},
        entry("user", [{"type": "image", "mimeType": "image/png"}, {"type": "text", "text": "x"}]),
        header={**HEADER, "thinkingLevel": "off"},
    )
    assert runs.events.collect().select("kind", "actor", "text", "exit_code").rows() == [
        ("user", "shell", "ls\na", 2),
        ("other", "shell", "ls\na", 2),
        ("user", "hook", "note", None),
        ("compaction", None, "left that", None),
        ("other", "harness", "high", None),
        ("other", "harness", "here", None),
        ("user", None, "x", None),
    ]
    row = runs.trajectories.collect().row(0, named=True)
    assert json.loads(row["params"]) == {"thinking_levels": ["off", "high"]}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("stop", "unknown"), ("aborted", "cancelled"), ("error", "error"), ("length", "limit")],
)
def test_how_a_session_ended(tmp_path: Path, reason: str, outcome: str) -> None:
    runs = load(tmp_path, entry("assistant", [], stopReason=reason, usage={"input": 0}))
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["end_reason"], row["input_tokens"]) == (outcome, reason, None)


def test_two_sessions_in_one_file_are_two_runs(tmp_path: Path) -> None:
    second = {**HEADER, "id": "t"}
    runs = load(tmp_path, entry("user", "a"), second, entry("user", "b"), entry("user", "c"))
    rows = runs.trajectories.collect()
    assert rows.select("native_id", "events").rows() == [("s", 1), ("t", 2)]


def test_broken_lines_and_hostile_types_cost_only_themselves(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        "{broken",
        "5",
        entry("user", {"text": 1}),
        entry("assistant", [1, {"type": "toolCall", "id": 5}, {"type": "new"}], usage=[1]),
        entry("toolResult", None, toolCallId=[1], details=7, isError="yes"),
        {"type": "compaction", "firstKeptEntryIndex": 99, "summary": {}},
        {"type": "message", "message": "text"},
        entry("assistant", "end", timestamp="never", stopReason=3),
        '{"type":"message","message":{"role":"user","content":"cut',
    )
    errors = runs.problems.filter(pl.col("severity") == "error").collect()
    assert set(errors["position"]) == {"L2", "L3", "L8/message", "L10"}
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["steps"], row["unanswered_calls"], row["orphan_results"]) == (2, 1, 1)
    assert contexts(runs) == [None, None]


def test_what_no_column_holds_is_in_the_metadata(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        {"type": "model_change", "provider": "p", "modelId": "m"},
        entry("assistant", "a", provider="p", api="x-api"),
        {"type": "compaction", "summary": "s", "tokensBefore": 9, "fromHook": False},
        entry("assistant", "b", provider="q", api="x-api"),
        entry("bashExecution", None, command="ls", output="", cancelled=True),
        header={**HEADER, "modelId": "m"},
    )
    row = runs.trajectories.collect().row(0, named=True)
    assert json.loads(row["metadata"]) == {
        "modelId": "m",
        "apis": ["x-api"],
        "providers": ["p", "q"],
        "compactions": [{"tokensBefore": 9, "fromHook": False}],
    }
    assert row["started_at"].isoformat() == "2026-01-01T00:00:00+00:00"
    events = runs.events.collect()
    assert json.loads(events["text"][0]) == {"provider": "p", "modelId": "m"}
    assert events["error_type"].to_list()[-1] == "cancelled"


def test_a_copied_session_does_not_say_when_the_run_began(tmp_path: Path) -> None:
    late = {**HEADER, "timestamp": "2030-01-01T00:00:00Z", "branchedFrom": "old.jsonl"}
    runs = load(tmp_path, entry("user", "a"), header=late)
    row = runs.trajectories.collect().row(0, named=True)
    assert row["started_at"] is None or row["started_at"].year < 2030
    assert json.loads(row["metadata"])["timestamp"] == late["timestamp"]


@pytest.mark.parametrize("folder", ["pi", "other_cli/openclaw"])
def test_nothing_of_the_real_logs_is_lost(real_logs: Path, folder: str) -> None:
    assert loaders.coverage(real_logs / folder, progress=False).lost.is_empty()
