"""CrewAI: our own runs against their raw files and the recorded wire, and shapes written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import ROOT

import loaders
from loaders import Trajectories, load
from loaders.formats import crewai
from loaders.sources import Source

Object = dict[str, Any]
SAMPLES = ROOT / "sample_logs" / "frameworks" / "crewai"
TRUTH = json.loads((ROOT / "sample_logs" / "truth.json").read_text())["parts"]["crewai"]


def events(runs: Trajectories, *columns: str, kind: str | None = None) -> list[tuple[Any, ...]]:
    rows = runs.events.filter(pl.col("kind") == kind) if kind else runs.events
    return rows.select(columns).collect().rows()


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def leads_back(runs: Trajectories) -> bool:
    places = runs.events.select("trajectory_id", "seq").collect().rows()
    return all(runs.raw(run, seq) is not None for run, seq in places)


# ---------------------------------------------------------------------- our own runs


def log_of(run: Object) -> Any:
    return json.loads((ROOT / "sample_logs" / run["log"]).read_text())


OUTPUTS = [run for run in TRUTH["runs"] if isinstance(log_of(run), dict)]
EVENTS = [run for run in TRUTH["runs"] if isinstance(log_of(run), list) and len(log_of(run)) > 2]


def name_of(run: Object) -> str:
    return f"{run['style']}/{run['task_id']}"


@pytest.mark.parametrize("run", OUTPUTS, ids=name_of)
def test_an_output_of_ours(run: Object) -> None:
    raw = log_of(run)
    messages = raw["tasks_output"][0]["messages"]
    runs = loaders.load(ROOT / "sample_logs" / run["log"])
    trajectory = runs.trajectories.collect().row(0, named=True)
    assert (trajectory["format"], trajectory["task_id"]) == ("crewai", run["task_id"])
    assert trajectory["steps"] == sum(m["role"] == "assistant" for m in messages) == run["steps"]
    assert trajectory["input_tokens"] == raw["token_usage"]["prompt_tokens"]
    assert trajectory["output_tokens"] == raw["token_usage"]["completion_tokens"]
    calls = [call["id"] for m in messages for call in m.get("tool_calls", [])]
    assert [call_id for (call_id,) in events(runs, "call_id", kind="tool_call")] == calls
    results = events(runs, "text", "call_id", kind="tool_result")
    shown = [(m["content"], m["tool_call_id"]) for m in messages if m["role"] == "tool"]
    assert results == shown
    errors = runs.events.filter(pl.col("is_error")).collect()
    raised = [hit["step"] for hit in run["perturbations"] if hit["kind"] == "raised_error"]
    assert errors["step"].to_list() == raised
    assert set(errors["error_type"]) <= {"ToolRaised"}
    assert set(runs.steps.collect()["thinking"]) == {"not_logged"}
    assert (trajectory["unanswered_calls"], trajectory["orphan_results"]) == (0, 0)
    assert leads_back(runs)


@pytest.mark.parametrize("run", EVENTS, ids=name_of)
def test_events_of_ours(run: Object) -> None:
    raw = log_of(run)
    completed = [event for event in raw if event["type"] == "llm_call_completed"]
    runs = loaders.load(ROOT / "sample_logs" / run["log"])
    steps = runs.steps.collect()
    usage = [event["usage"] for event in completed]
    key = "input_tokens" if run["style"] == "anthropic" else "prompt_tokens"
    assert steps["input_tokens"].to_list() == [used[key] for used in usage]
    assert steps["stop_reason"].to_list() == [event["finish_reason"] for event in completed]
    assert steps.height == run["steps"]
    assert set(steps["model"]) == {"planner-1"}
    assert steps["thinking_sent"].null_count() == steps.height
    failed = [event for event in raw if event["type"] == "tool_usage_error"]
    assert len(failed) == 1
    told = events(runs, "tool", "is_error", "error_type", kind="tool_result")
    assert told[0] == ("describe_table", True, "ToolRaised")
    assert told[-1] == ("submit", False, None)
    offered = next(event["tools"] for event in raw if event["type"] == "llm_call_started")
    tools = runs.tools.collect()
    assert tools.height == len(offered)
    assert "describe_table" in tools["name"].to_list()
    assert json.loads(events(runs, "arguments", kind="tool_call")[0][0]) == {"table": "sales_coast"}
    assert leads_back(runs)


def test_the_wire_shows_that_no_thinking_was_sent_back() -> None:
    steps = loaders.load(SAMPLES / "wire.har").steps.collect()
    truth = [run for run in TRUTH["runs"] if run["wire"]]
    assert steps.height == sum(run["steps"] for run in truth)
    assert steps["thinking_sent"].sum() == sum(sum(run["thinking_sent"]) for run in truth) == 0
    assert (steps["thinking_available"] > 0).any()


def test_a_log_of_tasks_of_ours() -> None:
    runs = loaders.load(SAMPLES / "reasoning_content" / "tables-easy-7.json")
    raw = json.loads((SAMPLES / "reasoning_content" / "tables-easy-7.json").read_text())
    told = events(runs, "kind", "text", "actor")
    assert told == [("user", raw[0]["task"], None), ("message", raw[1]["output"], "clerk")]
    assert runs.trajectories.collect()["steps"].to_list() == [0]


# ---------------------------------------------------------------------- outputs


def asked(call_id: str, arguments: str = "{}", name: str = "ls") -> Object:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def answered(call_id: str, text: str) -> Object:
    return {"role": "tool", "content": text, "tool_call_id": call_id, "name": "ls"}


def failure(message: str, arguments: Any, tool: str = "ls", code: str | None = "OSError") -> Object:
    known = {"message": message, "reason": "exception", "code": code, "retryable": False}
    return {"tool_name": tool, "failure": known, "tool_args": arguments, "agent_role": "clerk"}


def messages_of_a_task() -> list[Object]:
    return [
        {"role": "system", "content": "You list."},
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [asked("a", '{"p":  "/"}'), asked("b", '{"p": "/"}')],
        },
        answered("a", "Error executing tool: gone"),
        answered("b", "x"),
        {"role": "assistant", "content": "<think>hm</think>All there."},
    ]


def task(**more: Any) -> Object:
    known = {"description": "Look.", "name": "t1", "expected_output": "n", "summary": "Look...."}
    said = {"raw": "<think>hm</think>All there.", "pydantic": None, "json_dict": None}
    return {
        **known,
        **said,
        "agent": "clerk",
        "output_format": "raw",
        "messages": messages_of_a_task(),
        "tool_failures": [failure("gone", {"p": "/"})],
        **more,
    }


def usage(requests: int) -> Object:
    return {"prompt_tokens": 30, "completion_tokens": 7, "successful_requests": requests}


TOLD = [
    ("system", None, "You list.", None, None),
    ("user", None, "Look.", None, None),
    ("tool_call", 0, None, None, None),
    ("tool_call", 0, None, None, None),
    ("tool_result", 0, "Error executing tool: gone", True, "OSError"),
    ("tool_result", 0, "x", None, None),
    ("thinking", 1, "hm", None, None),
    ("message", 1, "All there.", None, None),
]


@pytest.mark.parametrize("layout", ["crew", "task", "agent", "lines"])
def test_layouts_of_outputs(tmp_path: Path, layout: str) -> None:
    one = task()
    crew = {"raw": one["raw"], "pydantic": None, "tasks_output": [one], "token_usage": usage(2)}
    agent = {key: one[key] for key in ("raw", "pydantic", "messages", "tool_failures")}
    values = {
        "crew": crew,
        "task": one,
        "agent": {**agent, "agent_role": "clerk", "usage_metrics": usage(2)},
        "lines": f"{json.dumps(crew)}\n{json.dumps(one)}",
    }
    path = write(tmp_path / "o.json", values[layout])
    assert crewai.sniff(Source(path).head)
    runs = loaders.load(path)
    assert events(runs, "kind", "step", "text", "is_error", "error_type")[:8] == TOLD
    trajectories = runs.trajectories.collect()
    assert trajectories.height == (2 if layout == "lines" else 1)
    assert set(trajectories["events"]) == {8}
    assert trajectories["input_tokens"][0] == (None if layout == "task" else 30)
    assert runs.steps.collect()["thinking"].to_list()[:2] == ["not_logged", "tagged_in_text"]
    assert set(runs.steps.collect()["agent"]) == {"clerk"}
    assert leads_back(runs)


def test_sums_that_count_shared_models_twice_are_not_taken(tmp_path: Path) -> None:
    crew = {"raw": "x", "tasks_output": [task(), task(name="t2")], "token_usage": usage(8)}
    runs = loaders.load(write(tmp_path / "o.json", crew)).trajectories.collect()
    assert runs["input_tokens"].to_list() == [None]
    known = json.loads(runs["metadata"][0])
    assert known["token_usage"]["successful_requests"] == 8
    assert [one["name"] for one in known["tasks"]] == ["t1", "t2"]
    assert (runs["steps"].to_list(), runs["task_id"].to_list()) == ([4], [None])


def test_what_no_message_shows(tmp_path: Path) -> None:
    """An older task without messages; an output that was converted; a tool that does not exist."""
    older = task(messages=[], tool_failures=[], raw="done")
    ghost = [failure("no such tool", {}, tool="ghost", code=None)]
    crew = {"raw": "final", "tasks_output": [older, task(raw="{}", tool_failures=ghost)]}
    runs = loaders.load(write(tmp_path / "o.json", crew))
    told = events(runs, "kind", "text", "error_type")
    assert told[:2] == [("user", "Look.", None), ("message", "done", None)]
    assert told[-3:] == [
        ("other", "{}", "output"),
        ("error", "no such tool", "exception"),
        ("other", "final", "output"),
    ]
    assert leads_back(runs)


def test_a_long_answer_hides_the_rest_from_the_head(tmp_path: Path) -> None:
    used = {**usage(2), "cached_prompt_tokens": 0}
    crew = {"raw": "x" * 20_000, "pydantic": None, "tasks_output": [task()], "token_usage": used}
    assert crewai.sniff(Source(write(tmp_path / "o.json", crew)).head)


# ---------------------------------------------------------------------- the log of tasks


def entries() -> list[Object]:
    at = "2026-01-31 10:00:0{}"
    known = {"task_name": "t1", "task": 'Say "a", twice.', "agent": "clerk"}
    return [
        {"timestamp": at.format(0), **known, "status": "started"},
        {"timestamp": at.format(2), **known, "status": "completed", "output": 'one\n"two"'},
    ]


def as_lines(entry: Object) -> str:
    fields = [f'{key}="{value}"' for key, value in entry.items() if key != "timestamp"]
    return f"{entry['timestamp']}: {', '.join(fields)}\n"


@pytest.mark.parametrize("name", ["log.json", "logs.txt"])
def test_a_log_of_tasks(tmp_path: Path, name: str) -> None:
    is_text = name.endswith("txt")
    value = "".join(map(as_lines, entries())) if is_text else entries()
    path = write(tmp_path / name, value)
    assert crewai.sniff(Source(path).head)
    runs = load(path)  # a text of several lines has the place of the first one
    told = events(runs, "kind", "text", "actor", "step")
    assert told == [
        ("user", 'Say "a", twice.', None, None),
        ("message", 'one\n"two"', "clerk", None),
    ]
    trajectory = runs.trajectories.collect().row(0, named=True)
    assert (trajectory["ended_at"] - trajectory["started_at"]).total_seconds() == 2
    assert json.loads(trajectory["metadata"]) == {"tasks": ["t1"]}
    assert runs.problems.collect().is_empty()
    assert leads_back(runs)


def test_quotes_inside_a_text_log_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "logs.txt", "".join(map(as_lines, entries())))
    assert events(load(path), "text") == [('Say "a", twice.',), ('one\n"two"',)]


def test_a_text_log_cut_short(tmp_path: Path) -> None:
    whole = "".join(as_lines({**entry, "task_name": None}) for entry in entries())
    runs = load(write(tmp_path / "logs.txt", whole[:-4]))
    assert [kind for (kind,) in events(runs, "kind")] == ["user", "message"]
    assert runs.problems.collect()["reason"].str.contains("cut short").to_list() == [True]


# ---------------------------------------------------------------------- events


def event(kind: str, number: int, **more: Any) -> Object:
    known = {"timestamp": f"2026-01-31T10:00:0{number % 10}Z", "type": kind, "task_id": "T"}
    mark = {"source_fingerprint": None, "event_id": f"e{number}", "emission_sequence": number}
    return {**known, **mark, "agent_id": "A", "agent_role": "clerk", **more}


def kickoff() -> list[Object]:
    first = [{"role": "system", "content": "You list."}, {"role": "user", "content": "Look."}]
    calls = [asked("a", '{"p": "/"}'), asked("b")]
    again = [
        *first,
        {"role": "assistant", "content": None, "tool_calls": [repr(call) for call in calls]},
        answered("a", "x"),
        answered("b", "Error executing tool: gone"),
    ]
    response = [
        {"id": "a", "function": {"name": "'ls'", "arguments": '\'{"p": "/"}\''}},
        {"type": "tool_use", "id": "b", "name": "ls", "input": {"p": "'/tmp'"}},
    ]
    tool = {"function": {"name": "'ls'", "description": "'Lists.'", "parameters": "{'p': 1}"}}
    model = {"model": "m-1", "tools": [tool], "temperature": 0.5}
    used = {"prompt_tokens": 9, "completion_tokens": 4, "reasoning_tokens": 2}
    times = {"started_at": "2026-01-31T10:00:04", "finished_at": "2026-01-31T10:00:05"}
    ran = {"tool_name": "ls", "tool_args": {}}
    found = failure("gone", {})["failure"]
    return [
        event("crew_kickoff_started", 1, crew_name="crew", inputs={"a": 1}),
        event("task_started", 2, task_name="t1", task={"description": "Look."}),
        event("llm_call_started", 3, call_id="1", messages=first, **model),
        event(
            "llm_call_completed",
            4,
            call_id="1",
            response=response,
            usage=used,
            finish_reason="tool_calls",
            model="m-1",
        ),
        event("tool_usage_started", 5, **ran),
        event("tool_usage_started", 6, **ran),
        event("tool_usage_error", 7, error="OSError('gone')", **ran),
        event("tool_failure_detected", 8, failure=found, policy="warn", **ran),
        event("tool_usage_finished", 9, output="x", failure=None, **times, **ran),
        event("llm_call_started", 10, call_id="2", messages=again, **model),
        event("llm_call_completed", 11, call_id="2", response="Done.", usage=None, model="m-1"),
        event("memory_save_started", 12, value="kept"),
        event("task_completed", 13, output={"raw": "Done."}),
        event("crew_kickoff_completed", 14, output={"raw": "Done."}),
    ]


TOLD_EVENTS = [
    ("system", None, "You list.", None, None),
    ("user", None, "Look.", None, None),
    ("tool_call", 0, None, None, None),
    ("tool_call", 0, None, None, None),
    ("tool_result", 0, "x", False, None),
    ("tool_result", 0, "Error executing tool: gone", True, "OSError"),
    ("message", 1, "Done.", None, None),
    ("other", 1, '{"value":"kept"}', None, "memory_save_started"),
]
COLUMNS = ("kind", "step", "text", "is_error", "error_type")


def without_roles(told: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*row[:2], '{"value":"kept"}', *row[3:]) if row[0] == "other" else row for row in told]


@pytest.mark.parametrize("form", ["lines", "array", "checkpoint", "shuffled"])
def test_forms_of_events(tmp_path: Path, form: str) -> None:
    found = kickoff()
    if form == "shuffled":  # two listeners side by side
        found[3], found[4] = found[4], found[3]
    nodes = {one["event_id"]: {"event": one, "edges": {}} for one in reversed(found)}
    record = {"nodes": nodes}
    checkpoint = {"crewai_version": "1.15.30", "branch": "main", "entities": [], "trigger": "t"}
    values = {"array": found, "checkpoint": {**checkpoint, "event_record": record}}
    path = write(tmp_path / "e.json", values.get(form, "\n".join(map(json.dumps, found))))
    assert crewai.sniff(Source(path).head)
    runs = loaders.load(path)
    assert without_roles(events(runs, *COLUMNS)) == TOLD_EVENTS
    assert events(runs, "call_seq", "duration_s", kind="tool_result") == [(2, 1.0), (3, None)]
    assert events(runs, "arguments", kind="tool_call") == [('{"p": "/"}',), ('{"p":"/tmp"}',)]
    steps = runs.steps.select("agent", "input_tokens", "reasoning_tokens", "evidence", "context")
    assert steps.collect().rows() == [
        ("clerk", 9, 2, "request", [{"start": 0, "stop": 2}]),
        ("clerk", None, None, "request", [{"start": 0, "stop": 6}]),
    ]
    assert runs.steps.collect()["thinking_sent"].to_list() == [None, None]
    assert runs.tools.select("name", "description").collect().rows() == [("ls", "Lists.")]
    trajectory = runs.trajectories.collect().row(0, named=True)
    assert (trajectory["native_id"], trajectory["task_id"]) == ("e1", "t1")
    assert json.loads(trajectory["params"]) == {"temperature": 0.5}
    version = "1.15.30" if form == "checkpoint" else None
    assert trajectory["framework_version"] == version
    assert leads_back(runs)


def test_each_kickoff_is_a_run_and_so_is_an_agent_alone(tmp_path: Path) -> None:
    alone = [{**one, "task_id": None} for one in kickoff()[2:11]]
    path = write(tmp_path / "e.json", [*kickoff(), *kickoff(), *alone])
    runs = loaders.load(path).trajectories.collect()
    assert runs["steps"].to_list() == [2, 2, 2]
    assert runs["native_id"].to_list() == ["e1", "e1", None]


def test_tasks_repeat_ids_and_responses(tmp_path: Path) -> None:
    first, second = kickoff()[:13], kickoff()[1:]
    more = [{**one, "task_id": "U", "emission_sequence": n} for n, one in enumerate(second, 20)]
    runs = loaders.load(write(tmp_path / "e.json", [*first, *more]))
    assert without_roles(events(runs, "kind", "text", "is_error")) is not None
    results = events(runs, "text", "call_seq", kind="tool_result")
    assert [text for text, _ in results] == ["x", "Error executing tool: gone"] * 2
    assert len({seq for _, seq in results}) == 4


def test_calls_and_tools_that_were_not_finished(tmp_path: Path) -> None:
    """A call that failed, one that never came back, a tool that no request shows any more."""
    found = kickoff()[:9]
    found.append(event("llm_call_started", 10, call_id="2", messages=[]))
    found.append(event("llm_call_failed", 11, call_id="2", error="overloaded"))
    found.append(event("llm_call_started", 12, call_id="3", messages=[], model="m-2"))
    found.append(event("crew_kickoff_failed", 13, error="gave up"))
    runs = loaders.load(write(tmp_path / "e.json", found))
    told = events(runs, *COLUMNS)
    assert told[4:] == [
        ("tool_result", 0, "OSError('gone')", True, "OSError"),
        ("tool_result", 0, "x", False, None),
        ("error", 1, "overloaded", None, None),
        ("error", 1, "gave up", None, "crew_kickoff_failed"),
    ]
    assert runs.steps.collect()["error"].to_list() == [None, "overloaded", None]
    outcome = runs.trajectories.select("outcome", "end_reason").collect().row(0)
    assert outcome == ("error", "gave up")
    assert leads_back(runs)


def test_thinking_that_was_streamed(tmp_path: Path) -> None:
    found = kickoff()
    chunks = [event("llm_thinking_chunk", 3, call_id="1", chunk=chunk) for chunk in ("Pl", "an")]
    found[3:3] = chunks
    runs = load(write(tmp_path / "e.json", found))  # a text in pieces has no place of its own
    assert events(runs, "text", "step", kind="thinking") == [("Plan", 0)]


# ---------------------------------------------------------------------- what else there is


def test_no_other_file_is_claimed(real_logs: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if crewai.sniff(Source(path).head)] == []


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]], "\ud800", 2**70, "'"])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    lines: list[Any] = [{**one, key: junk} for one in kickoff() for key in one]
    lines += [{**one, "emission_sequence": None} for one in kickoff()]
    lines += [task(**{key: junk}) for key in task()]
    lines += [task(messages=[{**one, key: junk}]) for one in messages_of_a_task() for key in one]
    lines += [task(tool_failures=[{**failure("m", {}), key: junk}]) for key in failure("m", {})]
    lines += [{"crewai_version": junk, "branch": 1, "event_record": {"nodes": {"n": junk}}}]
    lines += [{**entries()[0], "status": junk}, junk, *entries()]
    path = write(tmp_path / "e.jsonl", "\n".join(map(json.dumps, lines)))
    runs = load(path, format="crewai")  # places of nulls, and times before others, may be there
    assert ("message", 'one\n"two"') in events(runs, "kind", "text")
    assert not [reason for reason in runs.problems.collect()["reason"] if "Error:" in reason]
