"""Which frameworks send thinking back: the sample logs against their truth, and policies by hand."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from conftest import ROOT
from generator import Generator
from small import Rows, runs_of
from test_wire import Message, conversation, entry, har

import loaders
from analysis import thinking
from loaders import Trajectories

SAMPLES = ROOT / "sample_logs"
PLAN = "Plan: look at the table first."
TRUTH: dict[str, Any] = json.loads((SAMPLES / "truth.json").read_text())["parts"]
FRAMEWORKS = [*TRUTH]

# ---------------------------------------------------------------------- the sample logs

WHOLE_REQUESTS = {
    *("langgraph/anthropic/orders-easy-3.events.jsonl", "mlflow/openai/tables-easy-2.json"),
    *("mlflow/openai_dropped/search.json", "mlflow/responses/tables-easy-2.json"),
    *(
        "mlflow/anthropic/tables-easy-2.json",
        "otel/openinference_responses/bookings-medium-1.jsonl.gz",
    ),
    "openai_agents/reasoning_content/orders-easy-3.trace.jsonl",
    "openai_agents/reasoning/bookings-easy-3.trace.jsonl",
    "openai_agents/think_tags/bookings-medium-1.trace.jsonl",
    "openai_agents/replayed/orders-easy-7.trace.jsonl",
    "otel/openinference_anthropic/tables-easy-8.jsonl.gz",
    "otel/openinference_chat/orders-easy-3.jsonl.gz",  # in the raw bodies, not in the messages
    "otel/traceloop_anthropic/tables-easy-8.jsonl.gz",
}
"""Logs that hold every request, reasoning included. In all others it stays unknown."""
SOME_REQUESTS = {
    # The context of LlamaIndex holds the request of the first call, before anything was thought.
    "llama_index/reasoning_content/tables-easy-8.json": 1,
    "llama_index/anthropic/orders-easy-7.json": 1,
    # From here on spans have more than the 128 attributes that the exporter keeps.
    "otel/openinference_anthropic_capped/tables-easy-8.jsonl.gz": 6,
}
"""Logs that hold the requests of so many first calls."""
WITHOUT_REPLIES = {"openai_agents/responses/tables-easy-8.trace.jsonl"}
"""A trace that only names its responses: nothing in it can be found on the wire. Its items can."""
NOT_A_CALL = {
    # The tool raised, and what the framework logs of its own end is told as a call that failed.
    "google_adk/deepseek/orders-easy-3.json",
    "crewai/reasoning_content/tables-easy-7.json",  # holds the outcome of the crew and no calls
}


@cache
def logs_of(framework: str) -> Trajectories:
    folder = SAMPLES / "frameworks" / framework
    return loaders.load(sorted(path for path in folder.rglob("*") if _is_log(path)))


def _is_log(path: Path) -> bool:
    return path.is_file() and path.name != "wire.har"


def wires_of(framework: str) -> list[Path]:
    return sorted((SAMPLES / "frameworks" / framework).rglob("wire.har"))


def steps_by_log(runs: Trajectories) -> dict[str, pl.DataFrame]:
    """The calls of each run, by the place of its log."""
    sources = runs.trajectories.select("run", "source").collect()
    steps = runs.steps.collect().join(sources, on="run").sort("run", "step")
    root = (SAMPLES / "frameworks").as_posix() + "/"
    return {
        str(source).removeprefix(root): frame
        for (source,), frame in steps.partition_by("source", as_dict=True).items()
    }


def calls_of(run: dict[str, Any], steps: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The calls of a run of the truth, whose log may be a folder."""
    name = run["log"].removeprefix("frameworks/")
    (found,) = (key for key in steps if key == name or key.startswith(f"{name}/"))
    return steps[found]


def is_recorded(framework: str, run: dict[str, Any]) -> bool:
    """Whether the calls of a run are in an archive, which the truth says of all but three parts."""
    return bool(wires_of(framework)) and run.get("wire", True)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_the_wire_it_is_known_where_the_log_holds_the_request(framework: str) -> None:
    steps = steps_by_log(logs_of(framework))
    for run in TRUTH[framework]["runs"]:
        name = run["log"].removeprefix("frameworks/")
        if name in NOT_A_CALL:
            assert all(frame["thinking_sent"].is_null().all() for frame in steps.values())
            continue
        sent = calls_of(run, steps)["thinking_sent"].to_list()
        known = run["steps"] if name in WHOLE_REQUESTS else SOME_REQUESTS.get(name, 0)
        assert sent == run["thinking_sent"][:known] + [None] * (run["steps"] - known), name


@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if wires_of(name)])
def test_with_the_wire_it_is_what_the_server_saw(framework: str) -> None:
    native = steps_by_log(logs_of(framework))
    seen = steps_by_log(loaders.attach_wire(logs_of(framework), wires_of(framework)))
    found = 0
    for run in TRUTH[framework]["runs"]:
        name = run["log"].removeprefix("frameworks/")
        if name in NOT_A_CALL:
            continue
        calls = calls_of(run, seen)
        if not is_recorded(framework, run) or name in WITHOUT_REPLIES:
            assert calls.equals(calls_of(run, native)), name
            continue
        found += 1
        assert calls["thinking_sent"].to_list() == run["thinking_sent"], name
        assert calls["thinking_available"].to_list() == run["thinking_available"], name
        assert calls["evidence"].to_list() == ["wire"] * run["steps"], name
    assert found


def test_items_of_a_response_tell_what_their_trace_can_not() -> None:
    (run,) = (run for run in TRUTH["openai_agents"]["runs"] if run["style"] == "responses")
    seen = steps_by_log(loaders.attach_wire(logs_of("openai_agents"), wires_of("openai_agents")))
    items = seen["openai_agents/responses/tables-easy-8.items.json"]
    assert items["thinking_sent"].to_list() == run["thinking_sent"]
    assert set(items["evidence"]) == {"wire"}


def test_no_call_is_said_to_have_lost_thinking_that_it_was_sent() -> None:
    """Spans whose attributes were capped, or whose inputs are written without reasoning."""
    for name, calls in steps_by_log(logs_of("otel")).items():
        assert "thinking_dropped" not in calls["history_edit"].to_list(), name
    problems = logs_of("otel").problems.collect()
    dropped = problems.filter(pl.col("reason").str.contains("dropped"))
    assert dropped["source"].str.contains("_capped/").to_list() == [True] * 3


def span(number: int, attributes: dict[str, Any], **more: Any) -> Message:
    """A model's span as OTLP JSON writes it."""
    return {
        "traceId": "a" * 32,
        "spanId": f"{number:016x}",
        "startTimeUnixNano": str(10**18 + number),
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()],
        **more,
    }


def traced(folder: Path, *spans: Message) -> Trajectories:
    path = folder / "spans.json"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}))
    return loaders.load(path, format="otlp")


def openinference(number: int, cut: int | None = None, **more: Any) -> Message:
    """A call of the agent's, after ``number`` others; its messages leave out reasoning."""
    history: list[Message] = [{"role": "user", "content": "Count."}]
    for n in range(number):
        said = {"role": "assistant", "content": f"n {n}", "reasoning_content": f"think {n}"}
        history += [said, {"role": "user", "content": f"and {n}"}]
    reply = {"role": "assistant", "content": f"n {number}", "reasoning_content": f"think {number}"}
    listed = [("input", n, message) for n, message in enumerate(history)]
    attributes = {
        "openinference.span.kind": "LLM",
        "input.value": json.dumps({"messages": history})[:cut],
    }
    for side, n, message in [*listed, ("output", 0, reply)]:
        for key in ("role", "content"):
            attributes[f"llm.{side}_messages.{n}.message.{key}"] = message[key]
    attributes["output.value"] = json.dumps({"choices": [{"message": reply}]})
    return span(number, attributes, **more)


def test_the_raw_body_of_a_span_shows_what_its_messages_leave_out(tmp_path: Path) -> None:
    runs = traced(tmp_path, *(openinference(n) for n in range(3)))
    steps = runs.steps.collect()
    assert steps["thinking_sent"].to_list() == [0, 1, 2]
    said = runs.events.filter(pl.col("kind") == "thinking").collect()
    assert said["text"].to_list() == ["think 0", "think 1", "think 2"]
    assert runs.raw(runs.ids[0], said["seq"][2]) == "think 2"


def test_a_raw_body_that_was_cut_is_no_evidence(tmp_path: Path) -> None:
    runs = traced(tmp_path, openinference(0), openinference(1), openinference(2, cut=-40))
    steps = runs.steps.collect()
    assert steps["thinking_available"].to_list() == [0, 1, 2]
    assert steps["thinking_sent"].to_list() == [0, 1, None]
    assert "thinking_dropped" not in steps["history_edit"].to_list()


@pytest.mark.parametrize("lost", [1, 2, 3, 5, 6, 8, 11, 13])
def test_a_request_with_holes_tells_nothing_twice(lost: int, tmp_path: Path) -> None:
    whole = traced(tmp_path, *(openinference(n) for n in range(4)))
    capped = openinference(3)
    del capped["attributes"][1 : 1 + lost]  # the oldest attributes go first
    found = traced(
        tmp_path,
        *(openinference(n) for n in range(3)),
        {**capped, "droppedAttributesCount": lost},
    )
    same = ("seq", "step", "kind", "text")
    assert found.events.select(same).collect().equals(whole.events.select(same).collect())
    steps = found.steps.collect()
    assert steps["thinking_sent"].to_list() == [0, 1, 2, None]
    assert steps["context"].to_list()[3] is None


def test_a_reply_that_a_request_divides_is_one_call(tmp_path: Path) -> None:
    """Text and call are items of their own in a history of the Responses API."""
    text = {"type": "text", "content": "I look."}
    call = {"type": "tool_call", "id": "fc1", "name": "look", "arguments": {}}
    summary = json.dumps([{"type": "summary_text", "text": PLAN}])
    thought = {"type": "reasoning", "content": summary}
    result = {"type": "tool_call_response", "id": "c1", "response": "ok"}
    asked = {"role": "user", "parts": [{"type": "text", "content": "Look."}]}
    divided = [
        asked,
        {"role": "assistant", "parts": [text]},
        {"role": "assistant", "parts": [call]},
        {"role": "tool", "parts": [result]},
    ]
    done = {"role": "assistant", "parts": [{"type": "text", "content": "Done."}]}
    spans = [
        span(
            n,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.input.messages": json.dumps(given),
                "gen_ai.output.messages": json.dumps([reply]),
            },
        )
        for n, (given, reply) in enumerate(
            [([asked], {"role": "assistant", "parts": [text, thought, call]}), (divided, done)]
        )
    ]
    runs = traced(tmp_path, *spans)
    steps, events = runs.steps.collect(), runs.events.collect()
    assert steps["step"].to_list() == [0, 1]
    assert steps["thinking_sent"].to_list() == [None, None]
    assert steps["context"].to_list()[1] == [{"start": 0, "stop": 5}]
    (told,) = events.filter(pl.col("kind") == "thinking").iter_rows(named=True)
    assert (told["text"], told["thinking_state"]) == (PLAN, "summary")


@cache
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sent_back", ROOT / "benchmarks" / "sent_back.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def generated() -> list[Any]:
    return benchmark().results()


def test_the_table_in_the_readme_is_the_generated_one() -> None:
    page = (ROOT / "README.md").read_text()
    shown = page.partition("<!-- sent back -->")[2].partition("<!-- /sent back -->")[0].strip()
    assert shown == benchmark().table(generated())


def _runs_of_the_study(made: Generator, truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that are in the table, with what the server saw of them when they were made."""
    return [
        {
            **run,
            "style": run["policy"],
            "thinking_sent": made.study.thinking_due(run["policy"], run["steps"]),
            "thinking_available": [*range(run["steps"])],
        }
        for run in made.truth.study_runs(truth)
        if (run["model"], run["scaffold"]) == ("planner-1", "inspect")
        and run["perturbation"] == "none"
    ]


def test_the_table_agrees_with_the_truth(made: Generator, truth: dict[str, Any]) -> None:
    """Row by row what the server saw, over the runs whose requests are known."""
    rows = {
        (row["framework"], row["style"]): row
        for result in generated()
        for row in result.frame.iter_rows(named=True)
    }
    told = [(part["framework"], run) for part in TRUTH.values() for run in part["runs"]]
    told += [("inspect_ai", run) for run in _runs_of_the_study(made, truth)]
    assert {(name, run["style"]) for name, run in told} == rows.keys()
    for (framework, style), row in rows.items():
        runs = [r for name, r in told if (name, r.get("style", r.get("arm"))) == (framework, style)]
        assert row["runs"] == len(runs)
        assert sum(row[name] for name in (*thinking.POLICIES, "mixed", "unknown")) == len(runs)
        policies = {
            run.get("policy")
            or ("all" if run["thinking_sent"] == run["thinking_available"] else "none")
            for run in runs
        }
        assert {row["policy"]} <= policies | {"unknown"}, (framework, style)
        if not row["calls_unknown"]:
            sums = [
                sum(sum(run[f"thinking_{name}"]) for run in runs) for name in ("available", "sent")
            ]
            assert [row["blocks_due"], row["blocks_sent"]] == sums, (framework, style)
        shown = sum(run.get("thinking_in_log", 0) for run in runs)
        if row["in_log"] == ["not in the log"]:
            assert shown == 0
        if row["in_log"] == ["text"] and all("thinking_in_log" in run for run in runs):
            assert row["calls_logged"] >= shown > 0
    assert rows["autogen", "reasoning_content"]["calls_logged"] == 2
    assert rows["smolagents", "reasoning_content"]["in_log"] == ["not in the log"]
    assert rows["pydantic_ai", "anthropic_hidden"]["in_log"] == ["hidden"]


def test_the_runs_behind_a_row_can_be_opened() -> None:
    (result,) = (r for r in generated() if "pydantic_ai" in r.frame["framework"].to_list())
    assert len(result.runs(role="all", style="reasoning_content")) == 1
    assert len(result.runs(style="reasoning_content")) == 2
    assert "have no known request" in result.warnings[0]


# ---------------------------------------------------------------------- policies by hand


def run(
    number: int,
    sent: list[int | None],
    turns: tuple[int, ...] = (),
    contexts: list[list[tuple[int, int]] | None] | None = None,
    logged: bool = True,
    **step: Any,
) -> tuple[dict[str, Any], Rows, Rows]:
    """A run that thinks once at each call; before the calls in ``turns`` a user speaks again."""
    steps: Rows = []
    events: Rows = []
    for n, count in enumerate(sent):
        ranges = contexts[n] if contexts else None
        steps.append(
            {
                "run": number,
                "step": n,
                "seq": 3 * n,
                "thinking": "text" if logged else "not_logged",
                "thinking_available": n,
                "thinking_sent": count,
                "evidence": "unknown" if count is None else "wire",
                "thinking_context": None
                if ranges is None
                else [{"start": a, "stop": b} for a, b in ranges],
                **step,
            }
        )
        kinds = ["thinking" if logged else "message", "user" if n + 1 in turns else "tool_result"]
        events += [
            {"run": number, "seq": 3 * n + at, "step": n, "kind": kind}
            | ({"thinking_state": "text"} if kind == "thinking" else {})
            for at, kind in enumerate(kinds)
        ]
    return {"run": number, "framework": "f", "framework_version": "1"}, steps, events


def policies(*runs: tuple[dict[str, Any], Rows, Rows]) -> pl.DataFrame:
    return thinking.policy(
        runs_of(
            [r[0] for r in runs],
            [step for r in runs for step in r[1]],
            [event for r in runs for event in r[2]],
        )
    )


@pytest.mark.parametrize(
    ("sent", "turns", "expected", "fits"),
    [
        ([0, 1, 2, 3], (2,), "all", ["all"]),
        ([0, 1, 2, 3], (), "all", ["all", "turn_boundary"]),
        ([0, 1], (), "all", ["all", "turn_boundary", "last"]),
        ([0, 0, 0, 0], (2,), "none", ["none"]),
        ([0, 0, 0, 0], (1, 2, 3), "none", ["none", "turn_boundary"]),
        ([0, 1, 0, 1, 2], (2,), "turn_boundary", ["turn_boundary"]),
        ([0, 1, 2, 0, 0, 1], (3, 4), "turn_boundary", ["turn_boundary"]),
        ([0, 1, 1, 1], (2,), "last", ["last"]),
        ([0, 1, 1, 1], (), "last", ["last"]),
        ([0, 1, 0, 2], (), "mixed", []),
        ([0, 1, 0, 1, 2], (3,), "mixed", []),
        ([None, None, None], (), "unknown", []),
        ([0, None, None], (), "unknown", []),
        ([0, 1, None, 3], (), "all", ["all", "turn_boundary"]),
        ([0], (), "nothing_to_send", []),
    ],
)
def test_each_policy_is_inferred(
    sent: list[int | None], turns: tuple[int, ...], expected: str, fits: list[str]
) -> None:
    row = policies(run(0, sent, turns)).row(0, named=True)
    assert (row["policy"], row["fits"]) == (expected, fits)
    assert row["calls_due"] == sum(count is not None for count in sent[1:])
    assert row["calls_unknown"] == sum(count is None for count in sent[1:])
    known = [(n, count) for n, count in enumerate(sent) if count is not None]
    assert row["blocks_due"] == sum(n for n, _ in known)
    assert row["blocks_sent"] == sum(count for _, count in known)
    assert (row["in_log"], row["calls_logged"]) == ("text", len(sent))


def test_the_number_alone_is_no_policy() -> None:
    """One block at each call, but the first one always: neither the last nor this turn's."""
    first: list[list[tuple[int, int]] | None] = [[], [(0, 1)], [(0, 1)], [(0, 1)]]
    last: list[list[tuple[int, int]] | None] = [[], [(0, 1)], [(3, 4)], [(6, 7)]]
    found = policies(run(0, [0, 1, 1, 1], contexts=first), run(1, [0, 1, 1, 1], contexts=last))
    assert found["policy"].to_list() == ["mixed", "last"]
    turn: list[list[tuple[int, int]] | None] = [[], [(0, 1)], [], [(6, 7)], [(6, 10)]]
    old: list[list[tuple[int, int]] | None] = [[], [(0, 1)], [], [(0, 1)], [(0, 4)]]
    found = policies(
        *(run(n, [0, 1, 0, 1, 2], (2,), contexts=c) for n, c in enumerate((turn, old)))
    )
    assert found["policy"].to_list() == ["turn_boundary", "mixed"]


def test_a_log_without_thinking_is_judged_by_numbers() -> None:
    nothing: list[list[tuple[int, int]] | None] = [[], [], []]
    row = policies(run(0, [0, 1, 1], contexts=nothing, logged=False)).row(0, named=True)
    assert (row["policy"], row["in_log"], row["calls_logged"]) == ("last", "not in the log", 0)


def test_what_is_available_may_be_unknown_too() -> None:
    blind = run(0, [None, None], logged=False, thinking_available=None)
    quiet = run(1, [0, 0], logged=False, thinking_available=0, thinking="absent")
    empty = ({"run": 2}, [], [])
    found = policies(blind, quiet, empty)
    assert found["policy"].to_list() == ["unknown", "nothing_to_send", "unknown"]
    assert found["calls_unknown"].to_list() == [1, 0, 0]
    assert found["in_log"].to_list() == ["not in the log", "no thinking", "not in the log"]


def test_rows_count_the_runs_of_each_policy() -> None:
    parts = [run(0, [0, 1, 2]), run(1, [0, 0, 0]), run(2, [None, None]), run(3, [0, 1, 2])]
    result = thinking.sent_back(
        runs_of(
            [part[0] for part in parts],
            [step for part in parts for step in part[1]],
            [event for part in parts for event in part[2]],
        )
    )
    row = result.frame.row(0, named=True)
    assert (row["framework"], row["framework_version"], row["policy"]) == ("f", "1", "mixed")
    assert [row[n] for n in ("runs", "all", "none", "unknown", "last")] == [4, 2, 1, 1, 0]
    assert (row["blocks_sent"], row["blocks_due"], row["sent_share"]) == (6, 9, 6 / 9)
    assert (row["evidence"], row["in_log"]) == (["wire"], ["text"])
    assert (row["calls_logged"], row["calls_thinking"]) == (11, 11)
    assert result.runs("unknown").ids == ["r2"]
    assert result.kind == "sent_back"


def test_a_turn_boundary_is_seen_on_the_wire(tmp_path: Path) -> None:
    log = conversation("a", turns=3)
    again = conversation("b", turns=3)[1:]
    whole = [*log, *again]
    entries: list[Message] = []
    for number, message in enumerate(whole):
        if message["role"] == "assistant":
            users = [n for n in range(number) if whole[n]["role"] == "user"]
            history = [
                {k: v for k, v in m.items() if k != "reasoning_content" or n > users[-1]}
                for n, m in enumerate(whole[:number])
            ]
            reply = {"model": "m-1", "choices": [{"message": message}]}
            request = {"model": "m-1", "messages": history}
            entries.append(entry(request, reply, len(entries), 200))
    path = tmp_path / "wire.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "creator": {}, "entries": entries}}))
    seen = loaders.attach_wire(loaders.from_messages([whole]), path)
    row = thinking.policy(seen).row(0, named=True)
    assert (row["policy"], row["fits"]) == ("turn_boundary", ["turn_boundary"])
    assert (row["calls_due"], row["calls_across_turns"]) == (5, 3)
    assert (row["blocks_due"], row["blocks_sent"]) == (15, 6)
    last = loaders.attach_wire(loaders.from_messages([log]), har(path, (log, "last")))
    assert thinking.policy(last)["policy"].to_list() == ["last"]


# ---------------------------------------------------------------------- as text it is not sent


def recorded(folder: Path, url: str, calls: list[tuple[Message, Message]]) -> pl.DataFrame:
    entries = [entry(request, reply, second, 200) for second, (request, reply) in enumerate(calls)]
    for one in entries:
        one["request"]["url"] = f"http://127.0.0.1/v1/{url}"
    path = folder / "wire.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "creator": {}, "entries": entries}}))
    return loaders.load(path).steps.collect()


@pytest.mark.parametrize(
    ("block", "sent"),
    [
        ({"type": "thinking", "thinking": PLAN, "signature": "s1"}, 1),
        ({"type": "text", "text": PLAN}, 0),
        ({"type": "text", "text": f"<think>{PLAN}</think>"}, 0),
        (None, 0),
    ],
)
def test_anthropic_s_thinking_as_text_is_not_sent_back(
    block: Message | None, sent: int, tmp_path: Path
) -> None:
    call = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    thought = {"type": "thinking", "thinking": PLAN, "signature": "s1"}
    reply = {"type": "message", "role": "assistant", "model": "m", "content": [thought, call]}
    answer = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
    asked = {"role": "user", "content": "Look."}
    repeated = {"role": "assistant", "content": [*([block] if block else []), call]}
    messages = [asked, repeated, {"role": "user", "content": [answer]}]
    base = {"model": "m", "max_tokens": 9}
    done = {**reply, "content": [{"type": "text", "text": "Done."}]}
    requests = [{**base, "messages": [asked]}, {**base, "messages": messages}]
    steps = recorded(tmp_path, "messages", [(requests[0], reply), (requests[1], done)])
    assert steps["thinking_available"].to_list() == [0, 1]
    assert steps["thinking_sent"].to_list() == [0, sent]


@pytest.mark.parametrize(("is_item", "sent"), [(True, 1), (False, 0)])
def test_a_summary_of_responses_in_think_tags_is_not_sent_back(
    is_item: bool, sent: int, tmp_path: Path
) -> None:
    summary = [{"type": "summary_text", "text": PLAN}]
    thought = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "x1"}
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    text = {"role": "assistant", "content": f"<think>\n{PLAN}\n</think>"}
    asked = {"role": "user", "content": "Look."}
    answer = {"type": "function_call_output", "call_id": "c1", "output": "ok"}
    said = {"type": "message", "role": "assistant"}
    done = {**said, "content": [{"type": "output_text", "text": "Done."}]}
    history = [asked, thought if is_item else text, call, answer]
    base = {"object": "response", "model": "m", "status": "completed"}
    steps = recorded(
        tmp_path,
        "responses",
        [
            ({"model": "m", "input": [asked]}, {**base, "id": "r1", "output": [thought, call]}),
            ({"model": "m", "input": history}, {**base, "id": "r2", "output": [done]}),
        ],
    )
    assert steps["thinking_available"].to_list() == [0, 1]
    assert steps["thinking_sent"].to_list() == [0, sent]


def test_the_chart_has_a_row_for_each_framework_and_a_cross_for_the_unknown() -> None:
    folder = ROOT / "sample_logs" / "frameworks" / "strands"
    runs = loaders.load(f"{folder}/{{style}}/**/*", progress=False)
    spec = thinking.sent_back(runs, by="style").chart().to_dict()
    rows = next(iter(spec["datasets"].values()))
    assert {row["policy"] for row in rows} == {"not known"}
    seen = thinking.sent_back(loaders.attach_wire(runs, folder / "wire.har"), by="style").chart()
    rows = next(iter(seen.to_dict()["datasets"].values()))
    shares = {row["label"].split()[-1]: row["sent_share"] for row in rows}
    assert shares == {"anthropic": 1.0, "reasoning_content": 0.0, "think_tags": 1.0}
