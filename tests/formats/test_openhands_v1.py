"""OpenHands V1 against figures counted from the raw files, and small logs for what they lack."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

TOOLS_CHANGED = "38868567-ae62-4dcb-a567-8b534b99575c"
THREE_CALLS = "cd945624-03b9-487e-bdd4-018e3f531dfd"


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / "openhands_v1")


@pytest.fixture(scope="module")
def slice_(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / "openhands_v1" / "events.jsonl")


def raw_events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted((folder / "events").iterdir())]


# ---------------------------------------------------------------------- real files


def test_a_folder_is_one_run(runs: Trajectories, real_logs: Path) -> None:
    table = runs.trajectories.collect()
    assert set(table["native_id"]) == {None, TOOLS_CHANGED, THREE_CALLS}
    assert runs.problems.filter(pl.col("severity") != "skipped").collect().is_empty()
    for name in ("conv_38868567", "conv_cd945624"):
        folder = real_logs / "openhands_v1" / name
        raw = Counter(event["kind"] for event in raw_events(folder))
        told = runs.filter(pl.col("source").str.contains(name)).events.collect()
        kinds = Counter(told["kind"])
        assert kinds["tool_call"] == raw["ActionEvent"]
        assert kinds["tool_result"] == raw["ObservationEvent"]
        assert kinds["user"] + kinds["message"] == raw["MessageEvent"]
        assert kinds["system"] == raw["SystemPromptEvent"] + raw["SystemPromptUpdateEvent"]
        assert told.height == sum(raw.values())


def test_tokens_of_each_call_come_from_the_state(runs: Trajectories, real_logs: Path) -> None:
    path = real_logs / "openhands_v1" / "conv_cd945624" / "base_state.json"
    metrics = json.loads(path.read_text())["stats"]["usage_to_metrics"]["agent"]
    steps = runs.filter(native_id=THREE_CALLS).steps.collect()
    rows = metrics["token_usages"]
    assert steps["input_tokens"].to_list() == [row["prompt_tokens"] for row in rows]
    assert steps["output_tokens"].to_list() == [row["completion_tokens"] for row in rows]
    assert steps["cached_tokens"].to_list() == [row["cache_read_tokens"] for row in rows]
    assert steps["reasoning_tokens"].null_count() == 3, "a default of 0 is no count"
    durations = (steps["ended_at"] - steps["started_at"]).to_list()
    latencies = [row["latency"] for row in metrics["response_latencies"]]
    assert durations == [timedelta(seconds=latency) for latency in latencies]
    row = runs.filter(native_id=THREE_CALLS).trajectories.collect().row(0, named=True)
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (11583, 94, 7552)
    assert row["cost_usd"] == pytest.approx(0.00122745)
    assert row["model"] == "openai/gpt-4o-mini"
    assert json.loads(row["params"])["reasoning_effort"] == "high"
    assert "api_key" not in row["params"] + row["metadata"]


def test_finished_is_the_end_but_no_success(runs: Trajectories) -> None:
    ended = runs.filter(native_id=[THREE_CALLS, TOOLS_CHANGED]).trajectories.collect()
    assert ended["end_reason"].to_list() == ["finished", "finished"]
    assert ended["outcome"].to_list() == ["unknown", "unknown"]
    assert ended["success"].null_count() == 2


def test_tools_change_in_the_middle_of_a_run(runs: Trajectories, real_logs: Path) -> None:
    run = runs.filter(native_id=TOOLS_CHANGED)
    steps = run.steps.collect()
    tools = runs.tools.collect()
    offers = [set(tools.filter(pl.col("toolset") == t)["name"]) for t in steps["toolset"]]
    events = raw_events(real_logs / "openhands_v1" / "conv_38868567")
    told = [{tool["title"] for tool in event["tools"]} for event in events if "tools" in event]
    assert offers == told
    assert offers[1] - offers[0] == {"terminal"}
    assert run.trajectories.collect()["toolset"][0] == steps["toolset"][0]


def test_thinking_in_tags_repeats_the_reasoning_and_is_told_once(
    slice_: Trajectories, real_logs: Path
) -> None:
    lines = (real_logs / "openhands_v1" / "events.jsonl").read_text().splitlines()
    actions = [event for event in map(json.loads, lines) if event["kind"] == "ActionEvent"]
    thoughts = slice_.events.filter(pl.col("kind") == "thinking").collect()
    assert thoughts["text"].to_list() == [action["reasoning_content"] for action in actions]
    assert thoughts["thinking_state"].to_list() == ["text", "text"]
    messages = slice_.events.filter(pl.col("kind") == "message").collect()
    assert messages.height == 1, "the second action says nothing beside its thinking"
    assert not messages["text"].str.contains("think>").any()
    steps = slice_.steps.collect()
    assert steps["thinking"].to_list() == ["text", "text"]
    assert steps["thinking_sent"].null_count() == 2


def test_an_observation_without_its_action_is_an_orphan(slice_: Trajectories) -> None:
    row = slice_.trajectories.collect().row(0, named=True)
    assert (row["orphan_results"], row["unanswered_calls"]) == (1, 0)
    results = slice_.events.filter(pl.col("kind") == "tool_result").collect()
    assert results["call_seq"].is_null().to_list() == [False, True, False]
    assert results["is_error"].to_list() == [True, True, False]
    assert results["exit_code"].to_list() == [None, None, 1]


def test_of_a_slice_the_sums_are_those_of_the_last_statistics(slice_: Trajectories) -> None:
    row = slice_.trajectories.collect().row(0, named=True)
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (
        107_458,
        1_347,
        68_193,
    )
    assert row["model"] == "litellm_proxy/minimax-m2.7"
    assert row["cost_usd"] is None, "0 stands for an unknown price"
    assert row["end_reason"] == "running"
    assert slice_.steps.collect()["input_tokens"].null_count() == 2


def test_positions_lead_to_the_raw_record(runs: Trajectories) -> None:
    for run in runs.ids:
        for event in runs[run].events.collect().iter_rows(named=True):
            found = runs.raw(run, event["seq"])
            if event["kind"] == "tool_call":
                assert found["tool_call_id"] == event["call_id"]
            elif event["kind"] == "thinking":
                assert found == event["text"]
            elif "metadata" in found:  # with the notes that the model saw around the output
                notes, parts = found["metadata"], found["content"]
                output = "\n".join(part["text"] for part in parts)
                assert event["text"] == notes["prefix"] + output + notes["suffix"]
            else:
                parts = found if isinstance(found, list) else [found]
                assert event["text"] in "\n".join(part["text"] for part in parts)


@pytest.mark.parametrize("part", ["", "events"])
def test_a_folder_in_an_archive_reads_the_same(
    runs: Trajectories, real_logs: Path, tmp_path: Path, part: str
) -> None:
    folder = real_logs / "openhands_v1" / "conv_cd945624"
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(folder.rglob(f"{part}*/*.json" if part else "*.json"), reverse=True):
            packed.write(file, f"c/{file.relative_to(folder).as_posix()}")
    again = loaders.load(archive)
    assert len(again) == 1
    left_out = ["run", "trajectory_id", "source_pos"]
    original = runs.filter(native_id=THREE_CALLS).events.collect().drop(left_out)
    assert again.events.collect().drop(left_out).equals(original)
    assert again.raw(again.ids[0], 2)["kind"] == "ActionEvent"


# ---------------------------------------------------------------------- variants made here


def said(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def event(kind: str, name: str, source: str = "agent", **more: Any) -> dict[str, Any]:
    stamp = "2026-01-01T10:00:00"
    return {"id": name, "timestamp": stamp, "source": source, **more, "kind": kind}


def user(name: str, text: str = "do it", **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": said(text)}
    return event("MessageEvent", name, "user", llm_message=message, **more)


def action(name: str, response: str | None = None, **more: Any) -> dict[str, Any]:
    call = {"id": f"call-{name}", "name": "terminal", "arguments": '{"command": "ls"}'}
    filled: dict[str, Any] = {
        "thought": [],
        "action": {"command": "ls", "kind": "TerminalAction"},
        "tool_name": "terminal",
        "tool_call_id": f"call-{name}",
        "tool_call": call,
        "llm_response_id": response or f"response-{name}",
        **more,
    }
    return event("ActionEvent", name, **filled)


def observation(of: str, text: str = "out", **more: Any) -> dict[str, Any]:
    return event(
        "ObservationEvent",
        f"o-{of}",
        "environment",
        tool_name="terminal",
        tool_call_id=f"call-{of}",
        action_id=of,
        observation={"content": said(text), "is_error": False, **more},
    )


def load(folder: Path, *events: Any, name: str = "events.jsonl") -> Trajectories:
    (folder / name).write_text("".join(json.dumps(item) + "\n" for item in events))
    return loaders.load(folder)


def kinds(runs: Trajectories) -> list[str]:
    return runs.events.collect()["kind"].to_list()


def test_actions_of_one_response_are_one_model_call(tmp_path: Path) -> None:
    think = {"reasoning_content": "both at once"}
    runs = load(
        tmp_path,
        user("u"),
        action("a", "r1", **think),
        action("b", "r1", **think),
        observation("b", "of b"),
        observation("a", "of a"),
        action("c", "r2"),
    )
    assert kinds(runs) == [
        "user",
        "thinking",
        "tool_call",
        "tool_call",
        "tool_result",
        "tool_result",
        "tool_call",
    ]
    assert runs.steps.collect()["seq"].to_list() == [1, 6]
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results.select("text", "call_seq").rows() == [("of b", 3), ("of a", 2)]
    assert runs.trajectories.collect()["unanswered_calls"].to_list() == [1]


def test_actions_without_a_response_id_are_calls_of_their_own(tmp_path: Path) -> None:
    bare = [{**action(name), "llm_response_id": None} for name in "ab"]
    runs = load(tmp_path, *bare)
    assert runs.steps.collect().height == 2


@pytest.mark.parametrize(
    ("given", "state", "text", "signature"),
    [
        ({"thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]}, "text", "t", "s"),
        ({"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]}, "redacted", None, "d"),
        ({"responses_reasoning_item": {"summary": ["x", "y"], "encrypted_content": "e"}}, "summary", "x\ny", "e"),
        ({"responses_reasoning_item": {"summary": [], "content": ["x"]}}, "text", "x", None),
        ({"responses_reasoning_item": {"summary": [], "encrypted_content": "e"}}, "hidden", None, "e"),
        ({"thought": said("<think>only here</think>answer")}, "tagged_in_text", "only here", None),
    ],
)  # fmt: skip
def test_thinking_wherever_a_provider_leaves_it(
    tmp_path: Path, given: dict[str, Any], state: str, text: str | None, signature: str | None
) -> None:
    runs = load(tmp_path, action("a", **given))
    thought = runs.events.filter(pl.col("kind") == "thinking").collect().row(0, named=True)
    assert (thought["thinking_state"], thought["text"], thought["signature"]) == (
        state,
        text,
        signature,
    )
    assert runs.steps.collect()["thinking"].to_list() == [state]
    assert runs.raw(runs.ids[0], 0)


def test_reasoning_beside_its_own_blocks_is_told_once(tmp_path: Path) -> None:
    block = {"type": "thinking", "thinking": "plan it", "signature": "s"}
    runs = load(
        tmp_path,
        action(
            "a",
            thinking_blocks=[block],
            reasoning_content="plan it\n",
            thought=said("<think>\nplan it</think>\nDoing it."),
        ),
    )
    assert kinds(runs) == ["thinking", "message", "tool_call"]


def test_think_and_finish_stay_tool_calls(tmp_path: Path) -> None:
    runs = load(
        tmp_path, action("a", tool_name="think"), observation("a"), action("b", tool_name="finish")
    )
    calls = runs.events.filter(pl.col("kind") == "tool_call").collect()
    assert calls["tool"].to_list() == ["think", "finish"]
    assert runs.trajectories.collect()["success"].null_count() == 1


def test_errors_of_the_harness_and_rejections_answer_their_calls(tmp_path: Path) -> None:
    answer = {"tool_name": "terminal", "tool_call_id": "call-a"}
    reject = {"tool_name": "terminal", "tool_call_id": "call-b", "action_id": "b"}
    runs = load(
        tmp_path,
        action("a", action=None),
        event("AgentErrorEvent", "e", **answer, error="no such tool"),
        action("b"),
        event("UserRejectObservation", "r", "environment", **reject, rejection_reason="no"),
    )
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    columns = ["text", "actor", "is_error", "error_type", "call_seq"]
    assert results.select(columns).rows() == [
        ("no such tool", "harness", True, "AgentErrorEvent", 0),
        ("no", "user", None, "rejected", 2),
    ]
    assert runs.trajectories.collect()["unanswered_calls"].to_list() == [0]


def test_exit_codes_and_the_first_versions_of_observations(tmp_path: Path) -> None:
    old = observation("b")
    old["observation"] = {"output": "gone", "error": "boom", "metadata": {"exit_code": 3}}
    runs = load(
        tmp_path,
        action("a"),
        observation("a", is_error=True, exit_code=2),
        action("b"),
        old,
        action("c"),
        observation("c", metadata={"exit_code": -1}),
    )
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results.select("text", "is_error", "exit_code").rows() == [
        ("out", True, 2),
        ("gone\nboom", True, 3),
        ("out", False, None),
    ]


def test_a_condensation_takes_events_out_of_the_context(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        event("SystemPromptEvent", "s", system_prompt=said("be good")[0], tools=[]),
        user("u"),
        action("a", reasoning_content="hm"),
        observation("a"),
        action("b"),
        observation("b"),
        event("Condensation", "c", "environment", forgotten_event_ids=["a", "o-a", "unknown"],
              summary="did a", llm_response_id="condensed"),
        action("d"),
        observation("d"),
        action("e"),
    )  # fmt: skip
    events = runs.events.collect()
    compaction = events.filter(pl.col("kind") == "compaction").row(0, named=True)
    assert (compaction["seq"], compaction["text"]) == (7, "did a")
    steps = runs.steps.collect()
    assert steps["agent"].to_list() == [None, None, "condenser", None, None]
    contexts = [
        None if ranges is None else [(r["start"], r["stop"]) for r in ranges]
        for ranges in steps["context"].to_list()
    ]
    assert contexts == [None, None, None, [(0, 2), (5, 8)], [(0, 2), (5, 10)]]
    assert steps["history_edit"].to_list() == [None, None, None, "compacted", "compacted"]
    assert steps["thinking_sent"].null_count() == 5
    assert steps["thinking"].to_list() == ["text", "absent", "not_logged", "absent", "absent"]
    assert steps["evidence"].unique().to_list() == ["unknown"]


def test_condensing_twice_keeps_what_neither_took(tmp_path: Path) -> None:
    def condensed(name: str, *forgotten: str) -> dict[str, Any]:
        return event("Condensation", name, "environment", forgotten_event_ids=list(forgotten))

    names = ["a", "b", "c"]
    events = [part for name in names for part in (action(name), observation(name))]
    runs = load(
        tmp_path,
        user("u"),
        *events,
        condensed("k", "a", "o-a"),
        condensed("l", "b", "o-b", "k"),
        action("d"),
    )
    context = runs.steps.collect()["context"].to_list()[-1]
    assert [(r["start"], r["stop"]) for r in context] == [(0, 1), (5, 7), (8, 9)]


def test_a_history_in_very_many_pieces_is_not_told(tmp_path: Path) -> None:
    users = [user(f"u{index}") for index in range(400)]
    forgotten = [f"u{index}" for index in range(0, 400, 2)]
    condensation = event("Condensation", "k", "environment", forgotten_event_ids=forgotten)
    steps = load(tmp_path, *users, condensation, action("a")).steps.collect()
    assert steps["context"].to_list() == [None]
    assert steps["history_edit"].to_list() == ["compacted"]


def state_update(key: str, value: Any) -> dict[str, Any]:
    return event(
        "ConversationStateUpdateEvent", f"{key}{value}", "environment", key=key, value=value
    )


@pytest.mark.parametrize(
    ("events", "outcome", "reason"),
    [
        ([state_update("execution_status", "finished")], "unknown", "finished"),
        ([state_update("execution_status", "stuck")], "limit", "stuck"),
        ([state_update("execution_status", "error")], "error", "error"),
        (
            [
                event("ConversationErrorEvent", "x", code="LLMTimeoutError", detail="slow"),
                state_update("execution_status", "error"),
            ],
            "error",
            "LLMTimeoutError",
        ),
        (
            [event("ConversationErrorEvent", "x", code="MaxIterationsReached", detail="500")],
            "limit",
            "MaxIterationsReached",
        ),
        (
            [event("ConversationIterationLimitEvent", "x", max_iterations=5, detail="5")],
            "limit",
            "ConversationIterationLimitEvent",
        ),
        (
            [
                event("ConversationErrorEvent", "x", code="LLMTimeoutError", detail="slow"),
                state_update("execution_status", "finished"),
            ],
            "unknown",
            "finished",
        ),
        ([state_update("full_state", {"execution_status": "paused"})], "unknown", "paused"),
        ([], "unknown", None),
    ],
)
def test_how_a_run_ended(
    tmp_path: Path, events: list[dict[str, Any]], outcome: str, reason: str | None
) -> None:
    row = load(tmp_path, user("u"), *events).trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["end_reason"], row["success"]) == (outcome, reason, None)


def test_a_full_state_among_the_events_serves_as_the_state(tmp_path: Path) -> None:
    usage = {"model": "m-1", "prompt_tokens": 5, "completion_tokens": 2, "reasoning_tokens": 1}
    state = {
        "id": "c-1",
        "agent": {"kind": "Agent", "llm": {"model": "m", "temperature": 0, "api_key": "*****"}},
        "workspace": {"working_dir": "/w"},
        "stats": {
            "usage_to_metrics": {
                "agent": {
                    "accumulated_cost": 0.5,
                    "accumulated_token_usage": usage,
                    "token_usages": [{**usage, "response_id": "response-a"}],
                }
            }
        },
    }
    runs = load(tmp_path, action("a"), state_update("full_state", state))
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["native_id"], row["model"], row["cost_usd"]) == ("c-1", "m", 0.5)
    assert json.loads(row["params"]) == {"temperature": 0}
    assert row["environment"] is not None
    step = runs.steps.collect().row(0, named=True)
    assert (step["model"], step["input_tokens"], step["reasoning_tokens"]) == ("m-1", 5, 1)
    assert step["thinking"] == "not_logged"


def test_pauses_and_unknown_events_are_kept(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        user("u"),
        event("PauseEvent", "p", "user"),
        event("CondensationRequest", "q", "environment", reason="context_limit"),
        event("SomethingNewEvent", "n"),
    )
    other = runs.events.filter(pl.col("kind") == "other").collect()
    assert other.select("text", "actor").rows() == [
        ("PauseEvent", "user"),
        ('{"reason":"context_limit","kind":"CondensationRequest"}', "environment"),
        ("SomethingNewEvent", "agent"),
    ]


def test_what_the_framework_appends_is_told_as_the_harness_s(tmp_path: Path) -> None:
    runs = load(tmp_path, user("u", extended_content=said("a skill")))
    assert runs.events.collect().select("text", "actor").rows() == [
        ("do it", None),
        ("a skill", "harness"),
    ]


def test_calls_of_an_agent_behind_a_protocol_are_told_once(tmp_path: Path) -> None:
    def call(name: str, status: str, **more: Any) -> dict[str, Any]:
        return event(
            "ACPToolCallEvent", name, tool_call_id="t", title="Edit", status=status, **more
        )

    runs = load(
        tmp_path,
        call("1", "pending", raw_input={"path": "x"}),
        call("2", "in_progress"),
        call("3", "failed", raw_output="no", is_error=True),
    )
    events = runs.events.collect()
    assert events["kind"].to_list() == ["tool_call", "tool_result"]
    assert events.select("text", "is_error", "call_seq").row(1) == ("no", True, 0)
    assert runs.steps.collect().is_empty()


def test_a_long_event_is_recognised_though_its_kind_lies_beyond_the_head(tmp_path: Path) -> None:
    prompt = event("SystemPromptEvent", "s", system_prompt=said("x" * 40_000)[0], tools=[])
    runs = load(tmp_path, prompt, user("u"))
    assert runs.trajectories.collect()["format"].to_list() == ["openhands_v1"]
    assert kinds(runs) == ["system", "user"]
    (tmp_path / "events.jsonl").unlink()
    assert kinds(load(tmp_path, prompt, name="anything.json")) == ["system"]


def test_an_array_of_events_is_a_log_too(tmp_path: Path) -> None:
    (tmp_path / "trajectory.json").write_text(json.dumps([user("u"), action("a")]))
    runs = loaders.load(tmp_path)
    assert kinds(runs) == ["user", "tool_call"]
    assert runs.raw(runs.ids[0], 1)["id"] == "a"


def conversation(folder: Path, *events: Any, start: int = 0) -> Path:
    (folder / "events").mkdir(parents=True)
    for number, item in enumerate(events, start):
        name = f"event-{number:05}-00000000-0000-0000-0000-{number:012}.json"
        (folder / "events" / name).write_text(json.dumps(item))
    state = {"id": folder.name, "agent": {"llm": {"model": "m"}}, "execution_status": "finished"}
    (folder / "base_state.json").write_text(json.dumps(state))
    return folder


def test_two_conversations_are_two_runs(tmp_path: Path) -> None:
    for name in ("one", "two"):
        conversation(tmp_path / name, user("u"), action("a"))
    runs = loaders.load(tmp_path)
    assert runs.trajectories.collect()["native_id"].to_list() == ["one", "two"]
    assert runs.trajectories.collect()["events"].to_list() == [2, 2]


def test_events_loaded_without_their_state_find_it(tmp_path: Path) -> None:
    folder = conversation(tmp_path / "one", user("u"), action("a"))
    runs = loaders.load(folder / "events")
    assert runs.trajectories.collect()["native_id"].to_list() == ["one"]
    assert runs.raw(runs.ids[0], 1)["id"] == "a"


def test_events_in_one_file_beside_a_state_belong_to_it(tmp_path: Path) -> None:
    conversation(tmp_path / "one")
    runs = load(tmp_path / "one", user("u"), action("a"))
    assert runs.trajectories.collect()["native_id"].to_list() == ["one"]
    assert runs.raw(runs.ids[0], 1)["id"] == "a"


def test_a_state_without_events_is_no_run(tmp_path: Path) -> None:
    conversation(tmp_path / "one")
    with pytest.raises(loaders.LoadError, match="without its events"):
        loaders.load(tmp_path)


def test_missing_events_are_counted(tmp_path: Path) -> None:
    folder = conversation(tmp_path / "one", *[user(f"u{index}") for index in range(5)])
    for number in (1, 3):
        next((folder / "events").glob(f"event-0000{number}-*")).unlink()
    runs = loaders.load(tmp_path)
    assert runs.problems.collect()["reason"].to_list() == ["2 of 5 numbered events are missing"]


def test_an_event_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = conversation(tmp_path / "one", user("u"), action("a"), action("b"))
    files = sorted((folder / "events").iterdir())
    cut = files[1].read_text()
    files[1].write_text(cut[: cut.index('"llm_response_id"')])
    files[2].write_text("{broken")
    runs = loaders.load(tmp_path)
    assert kinds(runs) == ["user", "tool_call"]
    problems = runs.problems.filter(pl.col("severity") == "error").collect()
    damaged = [next(f for f in files if f.name in "".join(row)).name
               for row in problems.select("source", "position").rows()]  # fmt: skip
    assert sorted(damaged) == [files[1].name, files[2].name, files[2].name]


def test_hostile_types_cost_only_themselves(tmp_path: Path) -> None:
    state = {
        "stats": {
            "usage_to_metrics": {"agent": [1], "x": {"token_usages": [3, {"response_id": 4}]}}
        }
    }
    runs = load(
        tmp_path,
        user("u"),
        "no event",
        event("MessageEvent", "m", llm_message="text", extended_content={"a": 1}),
        action("a", thought={"text": 5}, tool_call=[1], critic_result="good", thinking_blocks=[1]),
        event("ObservationEvent", "o", observation=[1], action_id={"x": 1}, tool_call_id=7),
        event("Condensation", "c", forgotten_event_ids=[{"x": 1}, None], llm_response_id=5),
        event("SystemPromptEvent", "s", system_prompt=3, tools=[None, {"function": {"name": 7}}]),
        event("AgentErrorEvent", "e", classification=[], error={"no": "text"}),
        {**user("v"), "timestamp": {"never": 1}, "id": None},
        state_update("full_state", state),
        state_update("stats", ["no", "object"]),
        action("b"),
    )  # fmt: skip
    problems = runs.problems.filter(pl.col("severity") == "error").collect()
    assert problems["position"].to_list() == ["L2"]
    assert len(runs) == 1
    assert kinds(runs).count("tool_call") == 2
    assert kinds(runs)[-1] == "tool_call"


def test_settings_of_agent_and_run_are_metadata(tmp_path: Path) -> None:
    agent = {"kind": "Agent", "llm": {"model": "m", "api_key": "***", "timeout": 300}, "tools": [1]}
    state = {"id": "i", "agent": {**agent, "condenser": {"kind": "C", "max_size": 80}}}
    later = state_update("max_iterations", 7)
    runs = load(tmp_path, state_update("full_state", {**state, "persistence_dir": "p"}), later)
    row = runs.trajectories.collect().row(0, named=True)
    assert json.loads(row["metadata"]) == {
        "persistence_dir": "p",
        "agent": "Agent",
        "usage": None,
        "agent_settings": {"tools": [1], "condenser": {"kind": "C", "max_size": 80}},
        "llm": {"timeout": 300},
        "max_iterations": 7,
    }


def test_how_an_error_is_classified_is_kept_with_its_event(tmp_path: Path) -> None:
    classified = {"cause": "bad_call", "retryable": True}
    failed = event(
        "AgentErrorEvent", "e", tool_call_id="call-a", error="no", classification=classified
    )
    runs = load(tmp_path, action("a"), failed)
    row = runs.trajectories.collect().row(0, named=True)
    seq = runs.events.filter(pl.col("error_type") == "bad_call").collect()["seq"].item()
    assert json.loads(row["metadata"])["errors"] == {str(seq): classified}


def test_a_command_s_result_has_its_notes_and_tells_a_timeout(tmp_path: Path) -> None:
    notes = {"prefix": "[before] ", "suffix": " [timed out]", "working_dir": "/w"}
    first = action("a", security_risk="HIGH", tool_call={"id": "call-a", "origin": "responses"})
    runs = load(tmp_path, first, observation("a", metadata=notes, timeout=True))
    result = runs.events.filter(pl.col("kind") == "tool_result").collect().row(0, named=True)
    assert (result["text"], result["error_type"]) == ("[before] out [timed out]", "timeout")
    row = runs.trajectories.collect().row(0, named=True)
    assert json.loads(row["metadata"])["security_risks"] == {"0": "HIGH"}
    assert json.loads(row["metadata"])["apis"] == ["responses"]
    other = load(tmp_path, first).trajectories.collect().row(0, named=True)
    assert row["environment"] != other["environment"]


def test_a_critic_s_score_is_a_score_and_no_success(tmp_path: Path) -> None:
    runs = load(tmp_path, action("a", critic_result={"score": 0.25, "message": "hm"}))
    row = runs.trajectories.collect().row(0, named=True)
    assert row["scores"] == [{"name": "critic", "value": 0.25, "raw": "0.25"}]
    assert row["success"] is None
