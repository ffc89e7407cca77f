"""Cline tasks and sessions, written here as their sources say that they are: none is public."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import LoadError, Trajectories
from loaders.formats import anthropic_messages, cline, openai_chat
from loaders.formats._cline_text import TextCall, pieces, tool_of_result
from loaders.registry import formats
from loaders.sources import Source

TASK = "1769000000000"
ENV = "<environment_details>\n# Current Working Directory (/w/app) Files\na.py\n</environment_details>"
MODEL = {"modelId": "m-1", "providerId": "p", "mode": "act"}


def user(*blocks: Any, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    return {"role": "user", "content": content, **more}


def reply(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {**user(*blocks, **more), "role": "assistant"}


def thinking(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, **more}


def use(identity: str, name: str = "read_file", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": given}


def answer(identity: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": text, **more}


def say(kind: str, index: int | None = None, text: Any = None, **more: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"ts": 1769000001000, "type": "say", "say": kind, **more}
    if text is not None:
        entry["text"] = text if isinstance(text, str) else json.dumps(text)
    return entry if index is None else {**entry, "conversationHistoryIndex": index}


def ask(kind: str, index: int | None = None, text: Any = None) -> dict[str, Any]:
    return {**say("", index, text), "type": "ask", "say": None, "ask": kind}


def asked(index: int | None, **info: Any) -> dict[str, Any]:
    return say("api_req_started", index, {"request": "...", **info})


def write(tmp_path: Path, history: Any, name: str = TASK, **beside: Any) -> Path:
    folder = tmp_path / "tasks" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "api_conversation_history.json").write_text(json.dumps(history))
    for stem, content in beside.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    return folder


def load(tmp_path: Path, *history: Any, **beside: Any) -> Trajectories:
    return loaders.load(write(tmp_path, list(history), **beside))


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


HISTORY = [
    user("<task>\nMake it faster.\n</task>", ENV),
    reply(
        thinking("Read it first.", signature="s1", summary=[]),
        {"type": "text", "text": "I will read it.", "reasoning_details": [], "call_id": ""},
        use("t1", path="a.py"),
        modelInfo=MODEL,
        metrics={"tokens": {"prompt": 10, "completion": 40, "cached": 900}, "cost": 0.5},
    ),
    user("[read_file for 'a.py'] Result:\nprint(1)", ENV),
    reply(use("t2", "execute_command", command="x"), use("t3"), modelInfo=MODEL),
    user(answer("t2", "no such command", is_error=True), answer("t3", "print(1)")),
    reply("Done.", modelInfo=MODEL),
]
SCREEN = [
    say("text", -1, "Make it faster."),
    asked(-1, tokensIn=10, tokensOut=40, cacheWrites=900, cacheReads=0, cost=0.5),
    say("reasoning", 0, "Read it first."),
    asked(1, tokensIn=5, tokensOut=20, cacheReads=950, cost=0.25),
    asked(3, tokensIn=7, tokensOut=3, cacheReads=990, cost=0.25),
    ask("completion_result", 5, "Done."),
    ask("resume_completed_task", 5),
]
METADATA = {
    "files_in_context": [{"path": "a.py", "record_state": "active"}],
    "model_usage": [{"ts": 1, "model_id": "m-1", "model_provider_id": "p", "mode": "act"}],
    "environment_history": [{"os_name": "linux", "host_name": "code", "cline_version": "3.51.0"}],
}


def test_a_task_with_all_that_stands_beside_it(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *HISTORY,
        ui_messages=SCREEN,
        task_metadata=METADATA,
        context_history=[[2, [1, [[0, [[1769000002000, "text", ["short"], []]]]]]]],
    )
    assert runs.problems.collect().is_empty()
    told = row(runs)
    assert (told["native_id"], told["framework"], told["framework_version"]) == (
        TASK,
        "cline",
        "3.51.0",
    )
    assert (told["model"], told["provider"], told["cost_usd"]) == ("m-1", "p", 1.0)
    assert (told["input_tokens"], told["output_tokens"], told["cached_tokens"]) == (2862, 63, 1940)
    assert (told["outcome"], told["end_reason"]) == ("unknown", "completion_result")
    metadata = json.loads(told["metadata"])
    assert metadata["cwd"] == "/w/app"
    assert metadata["messages_edited_in_later_requests"] == [2]
    assert metadata["files_in_context"] == METADATA["files_in_context"]
    assert steps(runs, "input_tokens") == [910, 955, 997]
    assert steps(runs, "thinking") == ["text", "absent", "absent"]
    assert steps(runs, "thinking_sent") == [None] * 3
    frame = events(runs)
    kinds = "user user thinking message tool_call tool_result user tool_call tool_call"
    assert frame["kind"].to_list() == [*kinds.split(), "tool_result", "tool_result", "message"]
    assert frame["actor"].to_list()[1] == frame["actor"].to_list()[6] == "harness"
    answers = events(runs, "tool_result")
    assert answers["call_seq"].to_list() == [4, 7, 8]
    assert answers["is_error"].to_list() == [None, True, None]
    assert events(runs, "thinking")["signature"].to_list() == ["s1"]
    assert told["unanswered_calls"] == told["orphan_results"] == 0
    for event in frame.iter_rows(named=True):
        raw = json.dumps(runs.raw(event["trajectory_id"], event["seq"]))
        assert json.dumps(event["text"] or event["tool"])[1:-1] in raw


def test_without_the_window_a_message_says_what_it_cost(tmp_path: Path) -> None:
    runs = load(tmp_path, *HISTORY)
    assert steps(runs, "input_tokens") == [910, None, None]
    assert steps(runs, "output_tokens") == [40, None, None]
    assert steps(runs, "cached_tokens") == [None] * 3  # read and written are one number here
    assert row(runs)["cost_usd"] == 0.5


def test_only_one_format_says_yes_to_each_file(tmp_path: Path) -> None:
    folder = write(tmp_path, HISTORY, ui_messages=SCREEN, task_metadata=METADATA)
    for name in ("api_conversation_history", "ui_messages", "task_metadata"):
        head = Source(folder / f"{name}.json").head
        said = [f.name for f in formats().values() if f.sniff(head)]
        assert said == (["cline"] if name.startswith("api") else [])
        assert cline.companion(head) is not name.startswith("api")
    plain = tmp_path / "messages.json"
    plain.write_text(json.dumps(HISTORY))
    head = Source(plain).head
    assert anthropic_messages.sniff(head)
    assert not cline.sniff(head)
    history = write(tmp_path, [user("a"), reply("b")], "plain") / "api_conversation_history.json"
    assert cline.sniff(Source(history).head)
    assert not openai_chat.sniff(Source(history).head)


def test_calls_and_responses_that_are_texts(tmp_path: Path) -> None:
    first = (
        "<thinking>\nWhat is there?\n</thinking>\n\nI look.\n\n<list_files>\n<path>.</path>\n"
        "<recursive>false</recursive>\n</list_files>"
    )
    second = (
        "<write_to_file>\n<path>b.py</path>\n<content>\nx = '<path>'\n</content> # no end\n</content>\n"
        "</write_to_file>"
    )
    runs = load(
        tmp_path,
        user("<task>\nGo.\n</task>", ENV),
        reply(first),
        user("[list_files for '.'] Result:", "a.py\nb.py", ENV),
        reply(second),
        user("[write_to_file for 'b.py'] Result:", "saved", "<feedback>\nFine.\n</feedback>"),
        reply("No more tools."),
        user("[ERROR] You did not use a tool", ENV),
    )
    calls = events(runs, "tool_call")
    assert calls["tool"].to_list() == ["list_files", "write_to_file"]
    arguments = [json.loads(text) for text in calls["arguments"]]
    assert arguments[0] == {"path": ".", "recursive": "false"}
    assert arguments[1] == {"path": "b.py", "content": "x = '<path>'\n</content> # no end"}
    answers = events(runs, "tool_result")
    assert answers["text"].to_list() == ["a.py\nb.py", "saved"]
    assert answers["source_pos"].to_list() == ["/2/content/1", "/4/content/1"]
    assert answers["call_seq"].to_list() == calls["seq"].to_list()
    assert steps(runs, "thinking") == ["tagged_in_text", "absent", "absent"]
    assert events(runs, "message")["text"].to_list() == ["\n\nI look.\n\n", "No more tools."]
    users = events(runs, "user")
    assert users["actor"].to_list() == [None, "harness", "harness", None, "harness", "harness"]


def test_texts_that_only_look_like_calls_or_responses(tmp_path: Path) -> None:
    assert list(pieces("Use <read_file> and <b>this</b>.")) == ["Use <read_file> and <b>this</b>."]
    body = "<read_file><path>a</path><path>b</path><odd></read_file> then"
    assert list(pieces(body)) == [TextCall("read_file", {"path": "a"}), " then"]
    assert tool_of_result("[note] to self") == (None, False)
    runs = load(tmp_path, user("[draft 1] Result: none"), reply("a"), user("[web_fetch] Result:"))
    assert events(runs)["kind"].to_list() == ["user", "message", "tool_result"]
    assert row(runs)["orphan_results"] == 1


def test_thinking_of_every_kind(tmp_path: Path) -> None:
    parts = [{"type": "summary_text", "text": "sum"}, {"type": "summary_text", "text": "more"}]
    details = [{"type": "reasoning.text", "text": "in details", "signature": "d", "index": 0}]
    runs = load(
        tmp_path,
        user("go"),
        reply(thinking("", summary=parts), "a"),
        reply(thinking("said", summary=[{"type": "reasoning.text", "text": "said"}]), "b"),
        reply(thinking("", signature="only"), "c"),
        reply({"type": "redacted_thinking", "data": "xx"}, "d"),
        reply({"type": "text", "text": "e", "reasoning_details": details}),
        reply(thinking("in details"), {"type": "text", "text": "f", "reasoning_details": details}),
        reply("g"),
        ui_messages=[say("reasoning", 6, "shown only"), say("reasoning", 5, "in details")],
    )
    states = ["summary", "text", "hidden", "redacted", "text", "text", "text"]
    assert steps(runs, "thinking") == states
    told = events(runs, "thinking")
    assert told.height == 7
    assert told["text"].to_list()[0] == "sum\n\nmore"
    assert told["signature"].to_list()[2:5] == ["only", "xx", "d"]
    assert told["source_pos"].to_list()[-1] == "ui_messages.json#/0/text"
    assert runs.raw(told["trajectory_id"][6], told["seq"][6]) == "shown only"


def test_requests_that_failed_and_other_errors(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        user("go"),
        reply("a"),
        user("more"),
        ui_messages=[
            say("error", -1, "no workspace"),
            asked(
                -1, cancelReason="streaming_failed", streamingFailedMessage="overloaded", cost=0.1
            ),
            say("diff_error", 0, "no match"),
            asked(-1, tokensIn=4, tokensOut=2),
            asked(1, tokensIn=0, tokensOut=0, cancelReason="user_cancelled"),
            ask("resume_task", 2),
        ],
    )
    assert steps(runs, "error") == ["overloaded", None, "user_cancelled"]
    assert steps(runs, "stop_reason") == ["streaming_failed", None, "user_cancelled"]
    assert steps(runs, "input_tokens") == [None, 4, None]
    errors = events(runs, "error")
    assert errors["text"].to_list() == ["no workspace", "no match", "overloaded", "user_cancelled"]
    assert errors["error_type"].to_list()[:2] == ["error", "diff_error"]
    told = row(runs)
    assert (told["outcome"], told["end_reason"]) == ("cancelled", "user_cancelled")
    assert told["cost_usd"] == 0.1


@pytest.mark.parametrize(
    ("last", "outcome"), [("api_req_failed", "error"), ("mistake_limit_reached", "limit")]
)
def test_how_a_task_ended(tmp_path: Path, last: str, outcome: str) -> None:
    runs = load(tmp_path, user("go"), reply("a"), ui_messages=[asked(-1), ask(last, 1, "why")])
    assert (row(runs)["outcome"], row(runs)["end_reason"]) == (outcome, last)
    assert events(runs, "error")["text"].to_list() == ["why"]


def test_messages_left_out_of_a_request(tmp_path: Path) -> None:
    history = [user("go", ENV)]
    for number in range(4):
        history += [reply(use(f"t{number}")), user(answer(f"t{number}", f"r{number}"))]
    cut = {"conversationHistoryDeletedRange": [2, 5]}
    screen = [asked(2 * n - 1) for n in range(3)]
    runs = load(
        tmp_path,
        *history,
        reply("end"),
        ui_messages=[*screen, asked(5), say("text", 6, "x", **cut), {**asked(7), **cut}],
    )
    assert steps(runs, "history_edit") == [None, None, None, "truncated", "truncated"]
    contexts = [
        c if c is None else [(r["start"], r["stop"]) for r in c] for c in steps(runs, "context")
    ]
    assert contexts[3:] == [[(0, 3), (7, 8)], [(0, 3), (7, 10)]]
    assert contexts[:3] == [None] * 3


def test_windows_of_old_versions_name_no_messages(tmp_path: Path) -> None:
    entries = [asked(None, tokensIn=n, tokensOut=1, cost=0.5) for n in (3, 4)]
    runs = load(tmp_path, user("go"), reply("a"), user("b"), reply("c"), claude_messages=entries)
    assert steps(runs, "input_tokens") == [3, 4]
    (tmp_path / "tasks" / TASK / "claude_messages.json").unlink()
    entries = [*entries, asked(None, tokensIn=5, tokensOut=1), say("error", None, "late")]
    runs = load(tmp_path, user("go"), reply("a"), user("b"), reply("c"), ui_messages=entries)
    assert steps(runs, "input_tokens") == [None, None]
    assert (row(runs)["input_tokens"], row(runs)["output_tokens"]) == (12, 3)
    assert events(runs)["text"].to_list()[-1] == "late"


def test_what_subagents_and_deleted_requests_cost(tmp_path: Path) -> None:
    item = {"index": 0, "prompt": "look", "status": "completed", "totalCost": 0.25}
    spent = {"tokensIn": 9, "tokensOut": 1, "cost": 0.25}
    runs = load(
        tmp_path,
        user("go"),
        reply(use("t", "use_subagents")),
        ui_messages=[
            asked(-1, tokensIn=1, tokensOut=1, cost=0.5),
            say("subagent", 1, {"status": "running", "items": [{**item, "status": "running"}]}),
            say("subagent", 1, {"status": "completed", "items": [item]}),
            say("subagent_usage", 1, {"source": "subagents", **spent}),
            say("deleted_api_reqs", 1, spent),
        ],
    )
    metadata = json.loads(row(runs)["metadata"])
    assert metadata["subagents"] == [item]
    assert metadata["deleted_api_reqs"] == [spent]
    assert (row(runs)["cost_usd"], row(runs)["input_tokens"]) == (1.0, 1)


# ---------------------------------------------------------------------- sessions


SESSION = {
    "version": 1,
    "updated_at": "2026-07-01T10:00:09Z",
    "agent": "lead",
    "sessionId": "s-1",
    "messages": [
        user("List it.", ts=1782900000000, id="m0"),
        reply(
            thinking("Use ls."),
            use("t1", "list_files"),
            ts=1782900002000,
            id="m1",
            modelInfo={"id": "m-2", "provider": "p2"},
            metrics={"inputTokens": 75, "outputTokens": 13, "cacheReadTokens": 50, "cost": 0.01},
        ),
        user({**answer("t1", "a.py"), "name": "list_files"}, ts=1782900003000),
    ],
}
MANIFEST = {
    "version": 1,
    "session_id": "s-1",
    "source": "cli",
    "started_at": "2026-07-01T10:00:00Z",
    "ended_at": "2026-07-01T10:00:09Z",
    "model": "m-2",
    "provider": "p2",
    "cwd": "/w",
    "workspace_root": "/w",
    "metadata": {"title": "List it"},
}


def test_a_session_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "s-1.messages.json").write_text(json.dumps(SESSION))
    (tmp_path / "s-1.json").write_text(json.dumps(MANIFEST))
    runs = loaders.load(tmp_path)
    assert runs.problems.collect().is_empty()
    told = row(runs)
    assert (told["native_id"], told["format_version"], told["model"]) == ("s-1", "1", "m-2")
    assert (told["input_tokens"], told["output_tokens"], told["cached_tokens"]) == (75, 13, 50)
    assert (told["provider"], told["cost_usd"]) == ("p2", 0.01)
    assert str(told["ended_at"]) == "2026-07-01 10:00:09+00:00"
    assert json.loads(told["metadata"])["metadata"] == {"title": "List it"}
    assert json.loads(told["metadata"])["agent"] == "lead"
    frame = events(runs)
    assert frame["kind"].to_list() == ["user", "thinking", "tool_call", "tool_result"]
    assert frame["source_pos"].to_list()[-1] == "/messages/2/content/0"
    assert frame["started_at"].null_count() == 0


# ---------------------------------------------------------------------- broken and hostile


def test_a_history_cut_short_is_read_up_to_the_cut(tmp_path: Path) -> None:
    path = write(tmp_path, HISTORY) / "api_conversation_history.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"no such command")])
    runs = loaders.load(path)
    assert events(runs, "tool_call").height == 3
    assert runs.problems.collect().height == 1


def test_a_broken_window_is_a_problem_of_its_own(tmp_path: Path) -> None:
    folder = write(tmp_path, HISTORY, task_metadata=METADATA)
    (folder / "ui_messages.json").write_text("{}")
    runs = loaders.load(folder)
    assert events(runs, "message").height == 2
    assert row(runs)["framework_version"] == "3.51.0"
    reasons = runs.problems.collect()["reason"].to_list()
    assert any("no list of messages" in reason for reason in reasons)


@pytest.mark.parametrize("hostile", [None, 5, "x", [], {}, True, [[]], [None], {"a": 1}, 2**70])
def test_values_of_other_types_are_missing(tmp_path: Path, hostile: Any) -> None:
    history = [
        user("go"),
        {"role": "assistant", "content": hostile, "modelInfo": hostile, "metrics": hostile},
        reply(thinking(hostile, summary=hostile), {"type": hostile, "text": hostile}),
        {"role": hostile},
        hostile,
        user({"type": "tool_result", "tool_use_id": hostile, "content": hostile}),
        reply("end"),
    ]
    entry = dict.fromkeys(("ts", "ask", "say", "text", "conversationHistoryDeletedRange"), hostile)
    screen = [
        hostile,
        entry,
        {**asked(0), "modelInfo": hostile},
        say("api_req_started", 1, hostile),
    ]
    notes = {"model_usage": [hostile], "environment_history": hostile, "files_in_context": hostile}
    runs = load(
        tmp_path, *history, ui_messages=screen, task_metadata=notes, context_history=[hostile]
    )
    assert events(runs, "message")["text"].to_list()[-1] == "end"
    reasons = runs.problems.collect()["reason"]
    assert not reasons.str.contains(r"\.py:\d+").any()
    assert {"/3", "/4"} <= set(runs.problems.collect()["position"])


def test_an_empty_history_has_no_run(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no run in it"):
        load(tmp_path)


def test_time_is_linear(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        call = "<read_file><path>a</path></read_file><list_files>"
        history = [
            m
            for n in range(size)
            for m in (user(f"[read_file for '{n}'] Result:", "x"), reply(call))
        ]
        history.append(reply("<read_file>" * size + "<a>" * size + "</read_file>"))
        screen = [asked(2 * n - 1, tokensIn=1, tokensOut=1) for n in range(size)]
        start = time.perf_counter()
        load(tmp_path, *history, ui_messages=screen)
        return time.perf_counter() - start

    seconds(100)
    assert seconds(4_000) < 16 * seconds(500) + 1
