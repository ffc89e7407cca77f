"""Journals of Kimi Code and files of Kimi CLI against the raw files, and variants written here."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import kimi
from loaders.sources import Source

LONG, SHORT, SUBAGENT = "assistant_tools.jsonl", "small.jsonl", "subagent_agent-0.jsonl"
JOURNALS = (LONG, SHORT, SUBAGENT)


@pytest.fixture
def folder(real_logs: Path) -> Path:
    return real_logs / "other_cli" / "kimi"


def raw_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def raw_events(path: Path, kind: str) -> list[dict[str, Any]]:
    """The events of the loop of one type."""
    found = [r["event"] for r in raw_lines(path) if r["type"] == "context.append_loop_event"]
    return [event for event in found if event["type"] == kind]


def loop(kind: str, second: int = 0, /, **more: Any) -> dict[str, Any]:
    event = {"type": kind, "stepUuid": "s", **more}
    return {"type": "context.append_loop_event", "event": event, "time": 1.7e12 + second * 1e3}


def line(kind: str, second: int = 0, /, **more: Any) -> dict[str, Any]:
    return {"type": kind, "time": 1.7e12 + second * 1e3, **more}


def text(*words: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": word} for word in words]


def message(*words: str, kind: str = "user", role: str = "user", **more: Any) -> dict[str, Any]:
    said = {"role": role, "content": text(*words), "origin": {"kind": kind}, **more}
    return line("context.append_message", message=said)


HEADER = {"type": "metadata", "protocol_version": "1.4", "created_at": 1.7e12}
THOUGHT = {"type": "think", "think": "hm"}


def load(path: Path, *lines: Any, name: str = "journal.jsonl") -> Trajectories:
    file = path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return loaders.load(path, format="kimi")


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("name", JOURNALS)
def test_messages_parts_calls_and_results_are_all_told(folder: Path, name: str) -> None:
    path = folder / name
    runs = loaders.load(path)
    parts = [event["part"] for event in raw_events(path, "content.part")]
    thoughts = [part["think"] for part in parts if part["type"] == "think"]
    assert events(runs, "thinking")["text"].to_list() == thoughts
    assert set(events(runs, "thinking")["thinking_state"]) <= {"text"}
    shown = [part["text"] for part in parts if part["type"] == "text"]
    assert events(runs, "message")["text"].to_list() == shown
    calls, results = raw_events(path, "tool.call"), raw_events(path, "tool.result")
    assert events(runs, "tool_call")["call_id"].to_list() == [c["toolCallId"] for c in calls]
    arguments = [json.loads(given) for given in events(runs, "tool_call")["arguments"]]
    assert arguments == [call["args"] for call in calls]
    answers = events(runs, "tool_result")
    assert answers["call_id"].to_list() == [r["toolCallId"] for r in results]
    assert answers["is_error"].to_list() == [r["result"].get("isError") for r in results]
    whole = [[r["result"].get(key) for key in ("output", "note")] for r in results]
    assert answers["text"].to_list() == ["\n".join(filter(None, both)) for both in whole]
    said = [r["message"] for r in raw_lines(path) if r["type"] == "context.append_message"]
    assert events(runs, "user")["text"].to_list() == [m["content"][0]["text"] for m in said]
    typed = [m for m in said if m["origin"]["kind"] != "injection"]
    own = events(runs, "user").filter(~pl.col("actor").fill_null("").str.starts_with("injection"))
    assert own.height == len(typed)


@pytest.mark.parametrize("name", JOURNALS)
def test_tokens_and_ends_of_each_call_are_those_of_its_step(folder: Path, name: str) -> None:
    path = folder / name
    runs = loaders.load(path)
    frame = runs.steps.collect().filter(pl.col("stop_reason").is_not_null())
    ends = raw_events(path, "step.end")
    assert frame["stop_reason"].to_list() == [end["finishReason"] for end in ends]
    assert frame["output_tokens"].to_list() == [end["usage"]["output"] for end in ends]
    cached = [end["usage"]["inputCacheRead"] for end in ends]
    assert frame["cached_tokens"].to_list() == cached
    given = [end["usage"]["inputOther"] + end["usage"]["inputCacheCreation"] for end in ends]
    assert (frame["input_tokens"] - frame["cached_tokens"]).to_list() == given
    lasted = (frame["ended_at"] - frame["started_at"]).dt.total_milliseconds().to_list()
    logged = [end["llmFirstTokenLatencyMs"] + end["llmStreamDurationMs"] for end in ends]
    assert [abs(a - b) <= 1 for a, b in zip(lasted, logged, strict=True)] == [True] * len(ends)


def test_a_compaction_is_a_call_of_its_own(folder: Path) -> None:
    runs = loaders.load(folder / LONG)
    begun = len(raw_events(folder / LONG, "step.begin"))
    assert len(steps(runs, "step")) == begun + 1
    usage = [r for r in raw_lines(folder / LONG) if r["type"] == "usage.record"][-1]["usage"]
    assert steps(runs, "output_tokens")[-1] == usage["output"]
    # the records of usage are those of the steps, and that of the compaction
    all_usage = [
        r["usage"]["output"] for r in raw_lines(folder / LONG) if r["type"] == "usage.record"
    ]
    assert row(runs)["output_tokens"] == sum(all_usage)
    assert events(runs, "compaction")["step"].to_list() == [begun]


def test_settings_tools_and_failed_attempts(folder: Path) -> None:
    runs = loaders.load(folder / SHORT)
    run = row(runs)
    assert (run["format_version"], run["provider"], run["model"]) == (
        "1.4",
        "kimi",
        "kimi-k2.7-code",
    )
    params = json.loads(run["params"])
    assert (params["thinkingEffort"], params["thinkingKeep"]) == ("on", "all")
    requests = [r for r in raw_lines(folder / SHORT) if r["type"] == "llm.request"]
    retries = events(runs, "other").filter(actor="retry")
    assert retries["text"].to_list() == [r["attempt"] for r in requests if "attempt" in r]
    snapshot = next(r for r in raw_lines(folder / SHORT) if r["type"] == "llm.tools_snapshot")
    assert Counter(runs.tools.collect()["name"]) == Counter(t["name"] for t in snapshot["tools"])
    assert steps(runs, "toolset") == [run["toolset"]] * 2
    assert run["end_reason"] == "completed"


def test_the_state_names_the_session_and_the_subagent_is_linked(folder: Path) -> None:
    runs = loaders.load(folder)
    frame = runs.trajectories.collect()
    names = {Path(source).name: name for source, name in frame.select("source", "native_id").rows()}
    for name, state in ((LONG, "assistant_tools.state.json"), (SHORT, "state.json")):
        home = json.loads((folder / state).read_text())["agents"]["main"]["homedir"]
        assert names[name] == home.split("/")[-3]
    child = frame.filter(native_id="agent-0").row(0, named=True)
    parent = frame.filter(pl.col("source").str.ends_with(LONG)).row(0, named=True)
    assert child["parent_id"] == parent["trajectory_id"]
    started = events(runs, "tool_call").filter(run=parent["run"], tool="Agent")
    assert started["seq"].to_list() == [child["parent_seq"]]
    reasons = runs.problems.collect()[
        "reason"
    ].to_list()  # its definitions were cut for the fixture
    assert reasons == ["tool definitions that can't be read"]


def test_places_lead_back_and_nothing_is_lost(folder: Path) -> None:
    runs = loaders.load(folder / SUBAGENT)
    for told in events(runs, "tool_call").to_dicts():
        assert runs.raw(told["trajectory_id"], told["seq"])["toolCallId"] == told["call_id"]
    assert loaders.coverage(folder, kimi, progress=False).lost.is_empty()


# ---------------------------------------------------------------------- journals written here


def test_the_layout_of_a_session_folder(tmp_path: Path, folder: Path) -> None:
    session = tmp_path / "wd_x" / "session_1"
    for agent, source in (("main", LONG), ("agent-0", SUBAGENT)):
        (session / "agents" / agent).mkdir(parents=True)
        shutil.copy(folder / source, session / "agents" / agent / "wire.jsonl")
    agents = {"main": {}, "agent-0": {"parentAgentId": "main"}}
    state = {"agents": agents, "workDir": "/w", "title": "t"}
    (session / "state.json").write_text(json.dumps(state))
    frame = loaders.load(tmp_path).trajectories.collect()
    ids = dict(frame.select("native_id", "trajectory_id").rows())
    assert set(ids) == {"session_1", "agent-0"}
    parents = dict(frame.select("native_id", "parent_id").rows())
    assert parents == {"session_1": None, "agent-0": ids["session_1"]}
    assert {json.loads(text)["title"] for text in frame["metadata"]} == {"t"}


def test_thinking_of_all_states(tmp_path: Path) -> None:
    parts = [
        {**THOUGHT, "encrypted": "sig"},
        {"type": "think", "think": "", "encrypted": "locked"},
        {"type": "think", "think": ""},
        {"type": "image_url"},
    ]
    lines = [loop("step.begin"), *(loop("content.part", part=part) for part in parts)]
    runs = load(tmp_path, HEADER, *lines, loop("step.begin"))
    told = events(runs, "thinking").select("text", "thinking_state", "signature").rows()
    assert told == [("hm", "text", "sig"), (None, "hidden", "locked")]
    assert steps(runs, "thinking") == ["text", "absent"]
    assert events(runs, "message")["media"].to_list() == [["image_url"]]


def test_what_was_typed_is_told_once_and_never_lost(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(HEADER, line("turn.prompt", input=text("go")), message("go")),
        *(line("turn.steer", 3, input=text("wait")), line("turn.prompt", input=text("go"))),
        *(message("go"), message("remember", kind="injection", origin_variant="x")),
    )
    told = events(runs).select("kind", "text", "actor").rows()
    assert told == [
        ("user", "go", None),
        ("user", "go", None),
        ("user", "remember", "injection"),
        ("other", "wait", "user"),
    ]


def test_edits_of_the_history(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(HEADER, message("a"), loop("step.begin"), loop("content.part", part=text("1")[0])),
        *(line("context.clear"), message("b"), loop("step.begin")),
        *(line("context.undo", count=1), loop("step.begin")),
        line("llm.request", kind="compaction", model="m", droppedCount=2),
        line("usage.record", usage={"inputOther": 5, "output": 2, "inputCacheRead": 3}),
        *(line("context.apply_compaction", summary="short", tokensAfter=9), loop("step.begin")),
    )
    assert steps(runs, "history_edit") == [None, "truncated", "truncated", "truncated", "compacted"]
    assert steps(runs, "context")[1:] == [[{"start": 3, "stop": 4}], None, None, None]
    assert (row(runs)["input_tokens"], row(runs)["cached_tokens"]) == (8, 3)
    assert json.loads(row(runs)["metadata"])["dropped_in_compaction"] == 2


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([line("turn.cancel")], ("cancelled", "cancelled")),
        ([line("turn.ended", reason="failed")], ("error", "failed")),
        ([line("turn.cancel"), line("turn.ended", reason="completed")], ("unknown", "completed")),
        ([], ("unknown", None)),
    ],
)
def test_how_a_journal_ends(tmp_path: Path, ends: list[Any], expected: tuple[Any, ...]) -> None:
    run = row(load(tmp_path, HEADER, message("a"), *ends))
    assert (run["outcome"], run["end_reason"]) == expected


def test_messages_of_other_roles(tmp_path: Path) -> None:
    calls = [{"id": "c", "name": "Bash", "arguments": '{"a":1}'}]
    runs = load(
        tmp_path,
        *(
            HEADER,
            message("rules", role="system"),
            message("sure", role="assistant", toolCalls=calls),
        ),
        message("gone", role="tool", toolCallId="c", isError=True),
    )
    assert events(runs)["kind"].to_list() == ["system", "message", "tool_call", "tool_result"]
    answer = events(runs).row(3, named=True)
    assert (answer["call_seq"], answer["is_error"]) == (2, True)


def test_hostile_records_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(HEADER, "[1]", '{"type":', {"type": 3}, line("llm.request", toolsHash=[], model={})),
        *(line("llm.tools_snapshot", hash=[1], tools=[2]), line("turn.prompt", input=4)),
        *(loop("tool.result", result="x", toolCallId=[]), loop("step.end", usage=[1]), loop([])),
        line("context.append_message", message={"role": [], "content": [None], "origin": 7}),
        *(
            loop("step.begin"),
            loop("step.end", llmFirstTokenLatencyMs=-1e300, llmStreamDurationMs=1),
        ),
        *(
            line("usage.record", usage=[]),
            loop("content.part", part={"type": "text", "text": "end"}),
        ),
    )
    assert events(runs, "message")["text"].to_list() == ["end"]
    assert set(runs.problems.collect()["position"]) == {"L2", "L3", "L4"}
    assert row(runs)["orphan_results"] == 1


def test_a_state_that_is_broken_or_anothers_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "state.json").write_text('{"agents": {"agent-7": {}}, "workDir": "/w"}')
    runs = load(tmp_path, HEADER, message("go"), name="a/journal.jsonl")
    assert row(runs)["environment"] is None
    assert runs.problems.collect()["severity"].to_list() == ["warning"]  # not loaded with a log


# ---------------------------------------------------------------------- Kimi CLI


def wire(kind: str, second: float = 0, /, **payload: Any) -> dict[str, Any]:
    return {"timestamp": 1.7e9 + second, "message": {"type": kind, "payload": payload}}


def function(name: str, given: str | None = "{}") -> dict[str, Any]:
    return {"type": "function", "id": name, "function": {"name": "Shell", "arguments": given}}


WIRE = [
    {"type": "metadata", "protocol_version": "1.9"},
    wire("TurnBegin", user_input=text("go")),
    wire("StepBegin", n=1),
    wire("ContentPart", **THOUGHT, encrypted=None),
    wire("ToolCall", **function("t1", '{"comm')),
    wire("ToolCallPart", arguments_part='and":'),
    wire("ToolCallPart", arguments_part='"ls"}'),
    wire("ToolResult", tool_call_id="t1", return_value={"is_error": True, "output": "o", "message": "m"}),
    wire("StatusUpdate", 5, token_usage={"input_other": 7, "output": 2, "input_cache_read": 3}),
    wire("StepBegin", n=2),
    wire("ContentPart", type="text", text="done"),
]  # fmt: skip
CONTEXT = [
    {"role": "_system_prompt", "content": "You help."},
    {"role": "_checkpoint", "id": 0},
    {"role": "user", "content": "<system>CHECKPOINT 0</system>"},
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": [THOUGHT], "tool_calls": [function("t1")]},
    {"role": "tool", "content": text("o", "m"), "tool_call_id": "t1"},
    {"role": "_usage", "token_count": 12},
    {"role": "assistant", "content": "done"},
]


def test_the_wire_of_a_session(tmp_path: Path) -> None:
    runs = load(tmp_path, *WIRE, name="ses-1/wire.jsonl")
    frame = events(runs)
    kinds = ["user", "thinking", "tool_call", "tool_result", "message"]
    assert frame["kind"].to_list() == kinds
    assert frame["arguments"].to_list()[2] == '{"command":"ls"}'
    answer = frame.row(3, named=True)
    assert (answer["text"], answer["is_error"], answer["call_seq"]) == ("o\nm", True, 2)
    run = row(runs)
    assert (run["native_id"], run["format_version"], run["framework"]) == (
        "ses-1",
        "1.9",
        "kimi-cli",
    )
    assert (run["input_tokens"], run["output_tokens"], run["cached_tokens"]) == (10, 2, 3)
    assert runs.raw(run["trajectory_id"], 1)["think"] == "hm"


def test_the_context_of_a_session(tmp_path: Path) -> None:
    runs = load(tmp_path, *CONTEXT, name="ses-1/context.jsonl")
    assert kimi.sniff(Source(tmp_path / "ses-1" / "context.jsonl").head)
    frame = events(runs)
    kinds = ["system", "user", "user", "thinking", "tool_call", "tool_result", "message"]
    assert frame["kind"].to_list() == kinds
    assert frame["actor"].to_list()[1:3] == ["harness", None]
    assert frame["text"].to_list()[5:] == ["o\nm", "done"]
    assert steps(runs, "input_tokens") == [None, None]
    assert json.loads(row(runs)["metadata"]) == {"context_tokens": 12}


def test_both_files_of_a_session_are_one_run(tmp_path: Path) -> None:
    load(tmp_path, *WIRE, name="ses-1/wire.jsonl")
    runs = load(tmp_path, *CONTEXT, name="ses-1/context.jsonl")
    assert runs.trajectories.collect()["native_id"].to_list() == ["ses-1"]
    kinds = ["system", "user", "thinking", "tool_call", "tool_result", "message"]
    assert events(runs)["kind"].to_list() == kinds
    for told in events(runs, "system", "message").to_dicts():
        assert runs.raw(told["trajectory_id"], told["seq"]) == told["text"]


def test_subagents_inside_the_wire(tmp_path: Path) -> None:
    def aside(agent: str | None, call: str, event: dict[str, Any]) -> dict[str, Any]:
        key = "parent_tool_call_id" if agent else "task_tool_call_id"
        named = {"agent_id": agent, "subagent_type": "coder"} if agent else {}
        return wire("SubagentEvent", **{key: call}, **named, event=event["message"])

    nested = aside("a2", "t9", wire("ContentPart", type="text", text="deep"))
    runs = load(
        tmp_path,
        *(*WIRE[:4], wire("ToolCall", **function("t1")), wire("ToolCall", **function("t2"))),
        *(aside("a1", "t1", wire("StepBegin", n=1)), aside("a1", "t1", WIRE[3])),
        *(aside("a1", "t1", wire("ToolCall", **function("t9"))), aside("a1", "t1", nested)),
        *(aside(None, "t2", wire("ContentPart", type="text", text="old")), wire("StepInterrupted")),
    )
    frame = runs.trajectories.collect().sort("native_id", nulls_last=True)
    assert frame["native_id"].to_list() == ["a1", "a2", "t2", None]
    ids = dict(frame.select("native_id", "trajectory_id").rows())
    assert frame["parent_id"].to_list() == [ids[None], ids["a1"], ids[None], None]
    assert frame["parent_seq"].to_list() == [2, 1, 3, None]
    assert frame["outcome"].to_list()[-1] == "cancelled"
    assert sorted(events(runs, "message")["text"]) == ["deep", "old"]


def test_a_long_first_message_hides_the_second_line(tmp_path: Path) -> None:
    begin = wire("TurnBegin", user_input="x" * 20_000)
    runs = load(tmp_path, WIRE[0], begin, *WIRE[2:], name="wire.jsonl")
    assert kimi.sniff(Source(tmp_path / "wire.jsonl").head)
    assert row(runs)["framework"] == "kimi-cli"
    assert len(events(runs, "user")["text"][0]) == 20_000


def test_hostile_lines_of_kimi_cli(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(
            WIRE[0],
            wire("StepBegin"),
            "[1]",
            {"timestamp": [], "message": {"type": [], "payload": 1}},
        ),
        *(wire("ToolCallPart", arguments_part="x"), wire("ToolCall", function=[1], id={})),
        *(
            wire("ToolResult", return_value=[1]),
            wire("StatusUpdate", token_usage=[2], plan_mode=True),
        ),
        *(
            wire("SubagentEvent", event=[1]),
            wire("CompactionEnd"),
            wire("StepBegin"),
            {"role": "odd"},
        ),
        *({"lonely": 1}, wire("ContentPart", type="text", text="end")),
    )
    assert events(runs, "message")["text"].to_list() == ["end"]
    assert set(runs.problems.collect()["position"]) == {"L3", "L12", "L13"}
    assert steps(runs, "history_edit") == [None, "compacted"]


@pytest.mark.parametrize("lines", [[HEADER, message("go"), loop("step.begin")], WIRE, CONTEXT])
def test_a_file_cut_anywhere_gives_what_stands_before(tmp_path: Path, lines: list[Any]) -> None:
    whole_text = "\n".join(map(json.dumps, lines))
    whole = events(load(tmp_path, whole_text))["text"].to_list()
    for end in range(len(json.dumps(lines[0])) + 1, len(whole_text), 13):
        runs = load(tmp_path, whole_text[:end])
        told = events(runs)["text"].to_list()
        assert told == whole[: len(told)]
        assert not runs.problems.collect().is_empty() or whole_text[:end].endswith(("}", "\n"))


def test_time_is_linear(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        lines = [HEADER]
        for number in range(size):
            lines += [line("turn.prompt", input=text("go")), message("go"), loop("step.begin")]
            lines += [loop("tool.call", toolCallId=f"c{number}", name="Agent", args={})]
            lines += [
                loop("tool.result", toolCallId=f"c{number}", result={"output": "agent_id: a"})
            ]
        begun = time.process_time()
        load(tmp_path, *lines)
        return time.process_time() - begun

    seconds(100)
    assert seconds(4_000) < 16 * seconds(500) + 1
