"""SWE-agent against figures counted from the raw files, and variants written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from budget import at_most

import loaders
from loaders import Trajectories
from loaders.formats import swe_agent
from loaders.sources import Source

FUNCTIONS = "fc_1.x_marshmallow-1867"
EARLY_1 = "v1.x_thought_action"
GPT4 = "v0.x_gpt4_test-repo-i1"
CTF = "v0.x_ctf_i_got_id"
FILES = {FUNCTIONS: 13, EARLY_1: 5, GPT4: 5, CTF: 21}
FENCE = "```"


@pytest.fixture(scope="module")
def folder(real_logs: Path) -> Path:
    return real_logs / "swe_agent"


@pytest.fixture(scope="module")
def runs(folder: Path) -> Trajectories:
    return loaders.load([folder / "*.traj", folder / "*.json"], format="swe_agent")


def one(runs: Trajectories, name: str) -> Trajectories:
    found = runs.filter(pl.col("source").str.ends_with(f"/{name}.traj"))
    assert len(found) == 1
    return found


def raw(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.traj").read_text())


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def load(path: Path, value: Any, name: str = "task-1.traj") -> Trajectories:
    (path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return loaders.load(path / name, format="swe_agent")


def places_lead_back(runs: Trajectories) -> bool:
    """Whether the raw record behind each event with a text holds this text."""
    for event in runs.events.collect().iter_rows(named=True):
        record = runs.raw(event["trajectory_id"], event["seq"])
        if event["text"] is not None and event["text"] not in str(record):
            return False
    return True


def seen(step: dict[str, Any]) -> set[int]:
    return {seq for part in step["context"] for seq in range(part["start"], part["stop"])}


# ---------------------------------------------------------------------- real files


def test_every_file_of_the_format_is_recognised_and_no_other(real_logs: Path) -> None:
    claimed = {
        file.relative_to(real_logs).as_posix()
        for file in real_logs.rglob("*")
        if file.is_file() and swe_agent.sniff(Source(file).head)
    }
    own = {
        f"swe_agent/{file.name}"
        for file in (real_logs / "swe_agent").iterdir()
        if file.name != "README.md"
    }
    assert len(own) == 5
    assert claimed == own


@pytest.mark.parametrize(("name", "count"), FILES.items(), ids=list(FILES))
def test_each_step_is_told_once_with_its_observation(
    runs: Trajectories, folder: Path, name: str, count: int
) -> None:
    steps = raw(folder, name)["trajectory"]
    run = one(runs, name)
    assert len(steps) == count == row(run)["steps"]
    called, came = events(run, "tool_call"), events(run, "tool_result")
    assert (called.height, came.height) == (count, count)
    assert came["call_seq"].to_list() == called["seq"].to_list()
    assert came["step"].to_list() == list(range(count))
    for step, text in zip(steps, came["text"], strict=True):
        assert step["observation"].strip() in text
    assert row(run)["unanswered_calls"] == row(run)["orphan_results"] == 0


@pytest.mark.parametrize("name", FILES)
def test_the_thought_stays_in_the_message(runs: Trajectories, folder: Path, name: str) -> None:
    record = raw(folder, name)
    said = [e["content"] for e in record["history"] if e["role"] == "assistant"]
    said += [s["response"] for s in record["trajectory"][len(said) :]]
    assert events(one(runs, name), "message")["text"].to_list() == said
    assert events(one(runs, name), "thinking").is_empty()
    assert one(runs, name).steps.collect()["thinking"].null_count() == FILES[name]


@pytest.mark.parametrize("name", FILES)
def test_actions_are_the_arguments_of_calls(runs: Trajectories, folder: Path, name: str) -> None:
    record = raw(folder, name)
    called = events(one(runs, name), "tool_call")
    replies = [e for e in record["history"] if e["role"] == "assistant"]
    for index, (step, arguments) in enumerate(
        zip(record["trajectory"], called["arguments"], strict=True)
    ):
        if index < len(replies) and "tool_calls" in replies[index]:
            assert arguments == replies[index]["tool_calls"][0]["function"]["arguments"]
        else:
            assert json.loads(arguments) == {"command": step["action"]}


def test_native_calls_have_names_and_ids(runs: Trajectories, folder: Path) -> None:
    history = raw(folder, FUNCTIONS)["history"]
    asked = [e["tool_calls"][0] for e in history if e["role"] == "assistant"]
    called, came = (events(one(runs, FUNCTIONS), kind) for kind in ("tool_call", "tool_result"))
    assert called["tool"].to_list() == [call["function"]["name"] for call in asked]
    assert called["call_id"].to_list() == [call["id"] for call in asked]
    answered = [e["tool_call_ids"] for e in history if e["role"] == "tool"]
    assert [[call_id] for call_id in came["call_id"]] == answered
    assert came["text"].to_list() == [e["content"] for e in history if e["role"] == "tool"]


def test_documented_commands_are_tools_and_the_rest_is_bash(
    runs: Trajectories, folder: Path
) -> None:
    gpt4, ctf = (events(one(runs, name), "tool_call")["tool"].to_list() for name in (GPT4, CTF))
    assert gpt4 == ["find_file", "open", "edit", "bash", "submit"]
    assert [tool for tool in ctf if tool != "bash"] == ["create", "edit", "submit"]
    offered = runs.tools.collect()
    for name in FILES:
        record = raw(folder, name)
        agent = record.get("replay_config", {}).get("agent", {})
        docs = agent.get("tools", {}).get("command_docs", record["history"][0]["content"])
        toolset = offered.filter(pl.col("toolset") == row(one(runs, name))["toolset"])
        assert toolset.height == docs.count("\n  docstring: ") >= 10
    goto = json.loads(offered.filter(pl.col("name") == "goto")["parameters"][0])
    assert goto["signature"] == "goto <line_number>"
    assert goto["arguments"]["line_number"]["type"] == "integer"
    edit = offered.filter(
        pl.col("name") == "edit", pl.col("toolset") == row(one(runs, EARLY_1))["toolset"]
    )
    assert set(json.loads(edit["parameters"][0])["arguments"]) == {
        "search",
        "replace",
        "replace-all",
    }


def test_execution_times_are_durations(runs: Trajectories, folder: Path) -> None:
    for name in (FUNCTIONS, EARLY_1):
        times = [step["execution_time"] for step in raw(folder, name)["trajectory"]]
        assert events(one(runs, name), "tool_result")["duration_s"].to_list() == times
    assert events(one(runs, GPT4), "tool_result")["duration_s"].null_count() == 5


def test_a_demonstration_is_not_the_task(runs: Trajectories, folder: Path) -> None:
    history = raw(folder, GPT4)["history"]
    first = events(one(runs, GPT4)).head(3)
    assert [e.get("is_demo") for e in history[:3]] == [None, True, None]
    assert first["kind"].to_list() == ["system", "other", "user"]
    assert first["actor"].to_list() == [None, "demo", None]
    assert first["text"].to_list() == [e["content"] for e in history[:3]]
    assert events(one(runs, GPT4), "user").height == 1


def test_a_step_edited_by_hand_is_no_second_step(runs: Trajectories, folder: Path) -> None:
    record = raw(folder, CTF)
    said = [e["content"] for e in record["history"] if e["role"] == "assistant"]
    differing = [s["response"] != t for s, t in zip(record["trajectory"], said, strict=True)]
    assert sum(differing) == 1
    steps = one(runs, CTF).steps.collect()
    assert steps["source_pos"].to_list() == [f"/history/{n}" for n in range(2, 43, 2)]


def test_the_last_step_of_early_1_x_is_only_in_the_trajectory(
    runs: Trajectories, folder: Path
) -> None:
    assert sum(e["role"] == "assistant" for e in raw(folder, EARLY_1)["history"]) == 4
    last = events(one(runs, EARLY_1)).tail(3)
    assert last["source_pos"].to_list() == [
        "/trajectory/4/response",
        "/trajectory/4/action",
        "/trajectory/4/observation",
    ]
    assert last["tool"].to_list() == [None, "submit", "submit"]


def test_the_next_call_is_shown_the_processed_history(runs: Trajectories, folder: Path) -> None:
    record = raw(folder, FUNCTIONS)
    history = record["history"]
    run = one(runs, FUNCTIONS)
    places = [place.split("/")[2] for place in events(run)["source_pos"]]
    elided = 0
    for step in run.steps.collect().iter_rows(named=True):
        if step["step"] == 0:
            assert (step["context"], step["evidence"]) == (None, "unknown")
            continue
        shown = record["trajectory"][step["step"] - 1]["messages"]
        whole = {str(n) for n, e in enumerate(shown) if e["content"] == history[n]["content"]}
        assert seen(step) == {seq for seq, place in enumerate(places) if place in whole}
        assert step["evidence"] == "request"
        assert step["history_edit"] == ("truncated" if len(whole) < len(shown) else "none")
        elided += len(shown) - len(whole)
    assert elided == 28
    for name in (EARLY_1, GPT4, CTF):
        assert one(runs, name).steps.collect()["context"].null_count() == FILES[name]


def test_models_costs_and_token_sums_of_runs(runs: Trajectories, folder: Path) -> None:
    for name, model in ((FUNCTIONS, "replay"), (EARLY_1, "gpt-4o"), (GPT4, None), (CTF, None)):
        run, stats = row(one(runs, name)), raw(folder, name)["info"]["model_stats"]
        assert run["model"] == model
        assert run["input_tokens"] == stats["tokens_sent"]
        assert run["output_tokens"] == stats["tokens_received"]
        assert run["cost_usd"] == stats["instance_cost"]
        assert json.loads(run["metadata"])["model_stats"]["api_calls"] == stats["api_calls"]
    assert row(one(runs, GPT4))["input_tokens"] == 52861


def test_versions_tasks_and_settings(runs: Trajectories) -> None:
    found = {name: row(one(runs, name)) for name in FILES}
    assert [found[name]["format_version"] for name in FILES] == ["1", "1", "0", "0"]
    assert found[FUNCTIONS]["task_id"] == "marshmallow-code__marshmallow-1867"
    assert found[EARLY_1]["task_id"] == "SWE-agent__test-repo-i1"
    assert found[GPT4]["task_id"] == GPT4
    assert json.loads(found[EARLY_1]["params"])["temperature"] == 1.0
    metadata = json.loads(found[FUNCTIONS]["metadata"])
    assert metadata["env"]["repo"]["base_commit"].startswith("bfd2593d")
    assert metadata["agent"]["history_processors"][0]["type"] == "last_n_observations"
    assert metadata["agent"]["tools"]["execution_timeout"] == 30
    assert metadata["actions"]["open_pr"] is False
    assert not any(key.startswith("edited_files") for key in metadata)


def test_submitting_is_no_success(runs: Trajectories) -> None:
    for name in FILES:
        run = row(one(runs, name))
        assert (run["outcome"], run["end_reason"]) == ("unknown", "submitted")


def test_rows_of_a_data_set(runs: Trajectories, folder: Path) -> None:
    rows = json.loads((folder / "hf_nebius_rows.json").read_text())
    told = runs.filter(pl.col("source").str.ends_with("hf_nebius_rows.json"))
    table = told.trajectories.collect()
    assert table["task_id"].to_list() == [r["instance_id"] for r in rows]
    assert table["model"].to_list() == [r["model_name"] for r in rows]
    assert table["success"].to_list() == [r["target"] for r in rows] == [True] * 5
    assert table["end_reason"].to_list() == ["submitted"] * 5
    for record, trajectory_id in zip(rows, told.ids, strict=True):
        run = told[trajectory_id]
        said = [m["text"] for m in record["trajectory"] if m["role"] == "ai"]
        asked = [m["text"] for m in record["trajectory"] if m["role"] == "user"]
        called = events(run, "tool_call")
        assert events(run, "message")["text"].to_list() == said
        assert [json.loads(a)["command"] for a in called["arguments"]] == [
            text.split(f"\n{FENCE}")[-2].removeprefix("\n") + "\n" for text in said
        ]
        assert events(run, "user")["text"].to_list() == asked[:1]
        assert events(run, "tool_result")["text"].to_list() == asked[1:]
        assert events(run, "system")["text"].to_list() == [record["trajectory"][0]["system_prompt"]]
        assert events(run, "other")["text"].to_list() == [
            record["generated_patch"],
            record["eval_logs"],
        ]
        assert row(run)["unanswered_calls"] == 1
    assert events(told, "message").height == 49


def test_every_event_leads_back_to_its_record(runs: Trajectories) -> None:
    assert places_lead_back(runs)
    assert events(runs)["source_pos"].null_count() == 0
    assert runs.problems.collect().is_empty()


# ---------------------------------------------------------------------- variants


def entry(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, "agent": "main", **more}


def prologue() -> list[dict[str, Any]]:
    return [entry("system", "Use bash."), entry("user", "Fix it.")]


def call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "function": {"name": "bash", "arguments": '{"command":"ls"}'}}


def thinking(text: str, signature: str = "s") -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


class Session:
    """Writes a 1.x file as the framework does, with the request of every step."""

    def __init__(self) -> None:
        self.history = prologue()
        self.trajectory: list[dict[str, Any]] = []

    def step(self, text: str, action: str, observation: str, **more: Any) -> None:
        self._record(text, action, observation, [])
        self.history += [
            entry("assistant", text, action=action, thought=text, **more),
            entry("user", f"{observation}\n(cwd)$"),
        ]

    def rejected(self, text: str, action: str, demand: str, then: str) -> None:
        """A reply that is asked for again; the one that follows is accepted."""
        self._record(text, action, "", [], execution_time=0.0)
        again = [entry("assistant", text), entry("user", demand)]
        self._record(then, then, "done", again)
        self.history += [
            entry("assistant", then, action=then, thought=then),
            entry("user", "done\n(cwd)$"),
        ]

    def _record(
        self, text: str, action: str, observation: str, extra: list[Any], **more: Any
    ) -> None:
        self.trajectory.append(
            {
                "action": action,
                "observation": observation,
                "response": text,
                "thought": text,
                "execution_time": 0.5,
                "state": {"working_dir": "/repo"},
                "query": [*self.history, *extra],
                **more,
            }
        )

    def file(self, **more: Any) -> dict[str, Any]:
        return {"trajectory": self.trajectory, "history": self.history, "info": {}, **more}


def test_query_is_the_request_and_shows_what_was_sent_back(tmp_path: Path) -> None:
    session = Session()
    session.step("one", "ls", "a", tool_calls=[call("c1")], thinking_blocks=[thinking("first")])
    session.step("two", "pwd", "/", tool_calls=None, thinking_blocks=[thinking("second")])
    session.step("three", "id", "root")
    run = load(tmp_path, session.file())
    told = events(run, "thinking")
    assert told["text"].to_list() == ["first", "second"]
    assert told["signature"].to_list() == ["s", "s"]
    steps = run.steps.collect()
    assert steps["evidence"].to_list() == ["request"] * 3
    assert steps["thinking_available"].to_list() == [0, 1, 2]
    assert steps["thinking_sent"].to_list() == [0, 1, 1]
    assert steps["history_edit"].to_list() == ["none", "none", "thinking_dropped"]
    first, second, third = steps.iter_rows(named=True)
    assert seen(first) == {0, 1}
    assert seen(second) == set(range(second["seq"]))
    assert seen(third) == set(range(third["seq"]))
    assert third["thinking_context"] == [{"start": 2, "stop": 3}]


def test_thinking_that_the_request_lacks_was_dropped(tmp_path: Path) -> None:
    session = Session()
    blocks = [thinking("long"), {"type": "redacted_thinking", "data": "xx"}]
    session.step("one", "ls", "a", tool_calls=[call("c1")], thinking_blocks=blocks)
    session.step("two", "pwd", "/")
    for message in session.trajectory[1]["query"]:
        message.pop("thinking_blocks", None)
    session.trajectory[1]["query"][3] = entry("user", "Old environment output")
    session.history[2] = {**session.history[2], "thinking_blocks": blocks}
    steps = load(tmp_path, session.file()).steps.collect()
    assert steps["thinking_sent"].to_list() == [0, 0]
    assert steps["thinking_available"].to_list() == [0, 2]
    assert steps["history_edit"].to_list() == ["none", "thinking_dropped"]


def test_reasoning_of_the_step_alone_is_told(tmp_path: Path) -> None:
    session = Session()
    session.step("<think>tagged</think>one", "ls", "a")
    session.step("two", "pwd", "/")
    session.trajectory[1]["reasoning_content"] = "apart"
    run = load(tmp_path, session.file())
    told = events(run, "thinking")
    assert told["text"].to_list() == ["tagged", "apart"]
    assert told["thinking_state"].to_list() == ["tagged_in_text", "text"]
    assert told["source_pos"][1] == "/trajectory/1/reasoning_content"
    assert run.steps.collect()["thinking_sent"].to_list() == [0, 1]
    assert places_lead_back(run)


def test_a_rejected_reply_is_a_model_call_that_is_not_shown_again(tmp_path: Path) -> None:
    session = Session()
    session.step("one", "ls", "a")
    session.rejected("no command", "", "Give one command.", then="id")
    session.step("four", "pwd", "/")
    run = load(tmp_path, session.file())
    assert events(run, "message")["text"].to_list() == ["one", "no command", "id", "four"]
    assert events(run, "tool_call").height == events(run, "tool_result").height == 3
    assert events(run, "user")["text"].to_list() == ["Fix it.", "Give one command."]
    steps = run.steps.collect()
    assert steps["source_pos"].to_list() == [
        "/history/2",
        "/trajectory/1",
        "/history/4",
        "/history/6",
    ]
    again, last = steps.row(2, named=True), steps.row(3, named=True)
    assert seen(again) == set(range(again["seq"]))
    rejected = {steps["seq"][1], steps["seq"][1] + 1}
    assert seen(last) == set(range(last["seq"])) - rejected
    assert steps["history_edit"].unique().to_list() == ["none"]
    assert places_lead_back(run)


def test_a_blocked_action_was_called_and_not_run(tmp_path: Path) -> None:
    session = Session()
    session.rejected("edit it", "vim a.py", "vim is not supported.", then="id")
    run = load(tmp_path, session.file())
    called, came = events(run, "tool_call"), events(run, "tool_result")
    assert [json.loads(a)["command"] for a in called["arguments"]] == ["vim a.py", "id"]
    assert came["call_seq"].to_list() == [called["seq"][1]]
    assert row(run)["unanswered_calls"] == 1


def test_of_equal_tries_the_last_one_entered_history(tmp_path: Path) -> None:
    session = Session()
    session.rejected("id", "id", "Once more.", then="id")
    session.trajectory[1]["execution_time"] = 0.75
    run = load(tmp_path, session.file())
    assert row(run)["steps"] == 2
    assert events(run, "tool_result")["duration_s"].to_list() == [0.75]
    assert run.steps.collect()["source_pos"].to_list() == ["/trajectory/0", "/history/2"]


def test_elided_observations_are_not_in_the_context(tmp_path: Path) -> None:
    session = Session()
    for number in range(3):
        session.step(f"say {number}", "ls", "same")
    last = session.trajectory[2]["query"]
    last[3] = entry("user", "Old environment output: (2 lines omitted)")
    run = load(tmp_path, session.file())
    steps = run.steps.collect()
    came = events(run, "tool_result")["seq"].to_list()
    third = steps.row(2, named=True)
    assert seen(third) == set(range(third["seq"])) - {came[0]}
    assert steps["history_edit"].to_list() == ["none", "none", "truncated"]


def test_a_request_is_compared_place_by_place_where_it_has_all_places(tmp_path: Path) -> None:
    session = Session()
    for number in range(3):
        session.step(f"say {number}", "ls", "same")
    last = session.trajectory[2]["query"]
    last[3], last[4] = entry("user", "Old environment output"), entry("assistant", "say")
    run = load(tmp_path, session.file())
    told = events(run, "tool_result")["seq"].to_list()
    third = run.steps.collect().row(2, named=True)
    assert seen(third) == {0, 1, *range(2, told[0]), told[1]}


def test_a_request_that_left_out_messages_is_compared_in_their_order(tmp_path: Path) -> None:
    session = Session()
    for number in range(3):
        session.step(f"say {number}", "ls", f"seen {number}")
    del session.trajectory[2]["query"][2:4]
    run = load(tmp_path, session.file())
    steps = run.steps.collect()
    third = steps.row(2, named=True)
    assert seen(third) == {0, 1, *range(steps["seq"][1], third["seq"])}
    assert third["history_edit"] == "truncated"


def test_after_a_rejected_reply_the_processed_history_is_not_the_request(tmp_path: Path) -> None:
    session = Session()
    session.step("one", "ls", "a")
    session.rejected("no command", "", "Give one command.", then="id")
    for step in session.trajectory:
        step["messages"] = step.pop("query")
    session.trajectory[0]["messages"] = session.history[:4]
    steps = load(tmp_path, session.file()).steps.collect()
    assert steps["evidence"].to_list() == ["unknown", "request", "unknown"]
    assert seen(steps.row(1, named=True)) == set(range(steps["seq"][1]))


def test_cache_marks_do_not_hide_a_message(tmp_path: Path) -> None:
    session = Session()
    session.step("one", "ls", "a")
    session.step("two", "pwd", "/")
    marked = session.trajectory[1]["query"]
    for index in (1, 3):
        part = {"type": "text", "text": marked[index]["content"], "cache_control": {}}
        marked[index] = entry("user", [part])
    second = load(tmp_path, session.file()).steps.collect().row(1, named=True)
    assert seen(second) == set(range(second["seq"]))
    assert second["history_edit"] == "none"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("exit_cost", "limit"),
        ("submitted (exit_context)", "limit"),
        ("exit_format", "error"),
        ("submitted (exit_environment_error)", "error"),
        ("early_exit", "error"),
        ("exit_forfeit", "unknown"),
        ("exit_command", "unknown"),
        ("submitted", "unknown"),
        (None, "unknown"),
    ],
)
def test_outcomes(tmp_path: Path, status: str | None, outcome: str) -> None:
    run = load(tmp_path, {"history": prologue(), "trajectory": [], "info": {"exit_status": status}})
    assert (row(run)["outcome"], row(run)["end_reason"]) == (outcome, status)


@pytest.mark.parametrize("action", ["", "exit_cost"], ids=["1.x", "0.x"])
def test_giving_up_is_no_model_call(tmp_path: Path, action: str) -> None:
    text = "Exit due to cost limit"
    session = Session()
    session.step("one", "ls", "a")
    given = {"response": text, "thought": text, "action": action, "query": [{}]}
    session.trajectory.append({**given, "observation": "Exited (autosubmitted)", "state": {}})
    session.history.append(entry("assistant", text, action=action, thought=text))
    info = {"exit_status": "submitted (exit_cost)", "submission": "the patch"}
    for is_in_history in (False, True):
        if is_in_history:
            session.history.append(entry("user", "Exited (autosubmitted)\n(cwd)$"))
        run = load(tmp_path, session.file(info=info))
        assert row(run)["steps"] == 1
        end = events(run).tail(3)
        assert end["kind"].to_list() == ["error", "other", "other"]
        assert end["actor"].to_list() == [None, "environment", "submission"]
        assert end["error_type"][0] == (action or None)
        assert end["text"][2] == "the patch"
        assert places_lead_back(run)


def test_a_model_may_speak_of_exits(tmp_path: Path) -> None:
    text = f"Exiting due to boredom.\n{FENCE}\nsubmit\n{FENCE}"
    run = load(tmp_path, {"history": [*prologue(), entry("assistant", text)]})
    assert row(run)["steps"] == 1
    assert events(run, "tool_call")["arguments"].to_list() == ['{"command":"submit\\n"}']


def test_attempts_are_runs_of_their_own(tmp_path: Path) -> None:
    sessions = [Session(), Session()]
    for number, session in enumerate(sessions):
        session.step(f"try {number}", "submit", "patch")
    attempts = [session.file() for session in sessions]
    reviewed = {"info": {"review": {"accept": 0.25}, "exit_status": "submitted"}}
    attempts[1].update(reviewed)
    best = {**attempts[1], "info": {**reviewed["info"], "best_attempt_idx": 1}}
    runs = load(tmp_path, {"attempts": attempts, **best})
    table = runs.trajectories.collect()
    assert table["trial"].to_list() == ["0", "1"]
    assert table["source_pos"].to_list() == ["/attempts/0", "/attempts/1"]
    marked = [json.loads(m)["is_best_attempt"] for m in table["metadata"]]
    assert json.loads(table["metadata"][0])["all_attempts"]["best_attempt_idx"] == 1
    assert marked == [False, True]
    assert events(runs, "message")["text"].to_list() == ["try 0", "try 1"]
    assert table["scores"].to_list() == [None, [{"name": "review", "value": 0.25, "raw": "0.25"}]]
    assert places_lead_back(runs)


def test_settings_may_be_json_text(tmp_path: Path) -> None:
    docs = "look:\n  docstring: looks around\n  signature: look\n\n"
    model = {"name": "anthropic/claude", "temperature": 0, "api_key": "not-for-you"}
    agent = {"model": model, "tools": {"command_docs": docs}}
    config = json.dumps({"agent": agent, "problem_statement": {"id": "a-1"}})
    session = Session()
    session.step("one", "look around", "trees")
    run = load(tmp_path, session.file(replay_config=config))
    assert (row(run)["model"], row(run)["provider"]) == ("anthropic/claude", "anthropic")
    assert row(run)["task_id"] == "a-1"
    assert run.tools.collect()["name"].to_list() == ["look"]
    assert events(run, "tool_call")["tool"].to_list() == ["look"]
    assert "not-for-you" not in row(run)["params"]
    broken = load(tmp_path, session.file(replay_config="{oops"), "b.traj")
    assert broken.problems.collect()["position"].to_list() == ["/replay_config"]
    assert events(broken, "tool_call")["tool"].to_list() == ["bash"]


def test_the_state_is_text_in_0_x_and_an_object_in_1_x(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for number, state in enumerate(('{"working_dir": "/repo"}\n', {"working_dir": "/repo"}, {})):
        session = Session()
        session.step("one", "ls", "a")
        session.trajectory[0]["state"] = state
        found.append(row(load(tmp_path, session.file(), f"{number}.traj")))
    assert [run["format_version"] for run in found] == ["0", "1", "1"]
    assert found[0]["environment"] == found[1]["environment"] is not None
    assert found[2]["environment"] is None


def test_one_observation_may_answer_several_calls(tmp_path: Path) -> None:
    history = [
        *prologue(),
        entry("assistant", "both", tool_calls=[call("c1"), call("c2")], action="ls"),
        entry("tool", "seen", tool_call_ids=["c1", "c2"]),
        entry("tool", "late", tool_call_ids=["c9"]),
    ]
    run = load(tmp_path, {"history": history})
    came = events(run, "tool_result")
    assert came["text"].to_list() == ["seen", None, "late"]
    assert came["call_seq"].to_list() == [3, 4, None]
    assert (row(run)["unanswered_calls"], row(run)["orphan_results"]) == (0, 1)


def test_clipped_observations_are_truncated(tmp_path: Path) -> None:
    session = Session()
    session.step("one", "cat big", "x" * 50)
    session.step("two", "cat prompt", "say <response clipped>")
    session.history[3]["content"] = "xxx<response clipped><NOTE>47 characters were elided.</NOTE>"
    came = events(load(tmp_path, session.file()), "tool_result")
    assert came["truncated"].to_list() == [True, None]


def test_a_history_alone_is_a_run(tmp_path: Path) -> None:
    shown = [
        entry("user", "Do it like this.", is_demo=True),
        entry("assistant", f"demo\n{FENCE}\nls\n{FENCE}", is_demo=True),
    ]
    text = f"Look:\n{FENCE}python\nx\n{FENCE}\nso\n{FENCE}\ncat a\ncat b\n{FENCE}"
    history = [
        prologue()[0],
        *shown,
        prologue()[1],
        entry("assistant", text),
        entry("user", "seen"),
    ]
    (tmp_path / "h.json").write_text(json.dumps({"history": history}))
    assert swe_agent.sniff(Source(tmp_path / "h.json").head)
    run = load(tmp_path, {"history": history}, "h.json")
    assert events(run, "other")["actor"].to_list() == ["demo", "demo"]
    assert row(run)["steps"] == 1
    assert events(run, "tool_call")["arguments"].to_list() == ['{"command":"cat a\\ncat b\\n"}']
    assert events(run, "tool_result")["call_seq"].to_list() == [5]
    assert row(run)["task_id"] is None


def test_a_block_may_hold_a_block(tmp_path: Path) -> None:
    inner = f"create a.md\n{FENCE}python\nx\n{FENCE}\nend"
    text = f"So:\n{FENCE}\n{inner}\n{FENCE}\n"
    run = load(tmp_path, {"history": [*prologue(), entry("assistant", text)]})
    called = events(run, "tool_call")["arguments"].to_list()
    assert [json.loads(arguments)["command"] for arguments in called] == [f"{inner}\n"]


@pytest.mark.parametrize(
    "text", ["none", f"{FENCE}open", f"a {FENCE}\nls\n{FENCE}", f"{FENCE}\n{FENCE}"]
)
def test_without_a_whole_block_nothing_is_called(tmp_path: Path, text: str) -> None:
    run = load(tmp_path, {"history": [*prologue(), entry("assistant", text)]})
    assert events(run, "tool_call").is_empty()
    assert row(run)["steps"] == 1


def test_heads_that_are_something_else(tmp_path: Path) -> None:
    for name, value in (
        ("a.json", {"history": [{"role": "user", "content": "x", "name": "Expert"}]}),
        ("b.json", {"history": [{"role": "user", "content": "x"}]}),
        ("c.json", {"trajectory": [{"state": 1, "reward": 0}]}),
        ("d.json", {"trajectory": "text", "history": 5}),
        ("e.json", [1, 2]),
        ("f.json", {"trajectory": [{"role": "ai", "text": "x", "system_prompt": None}]}),
        ("yes.traj", {"history": [{"role": "user", "content": "x"}]}),
        ("yes.json", {"attempts": [Session().file(history=prologue())]}),
        ("long.traj", {"trajectory": [{"action": "ls", "observation": "x" * 40_000}]}),
    ):
        (tmp_path / name).write_text(json.dumps(value))
    found = {f.name for f in tmp_path.iterdir() if swe_agent.sniff(Source(f).head)}
    assert found == {"yes.traj", "yes.json", "long.traj"}


# ---------------------------------------------------------------------- broken logs


def test_a_file_cut_inside_the_trajectory_has_no_history(tmp_path: Path) -> None:
    session = Session()
    for number in range(3):
        session.step(f"say {number}", f"ls {number}", f"seen {number}")
    text = json.dumps(session.file())
    run = load(tmp_path, text[: text.index('"response": "say 2"')])
    assert events(run, "system", "user")["text"].to_list() == ["Use bash.", "Fix it."]
    assert events(run, "message")["text"].to_list() == ["say 0", "say 1"]
    came = events(run, "tool_result")
    assert came["text"].to_list() == ["seen 0", "seen 1", "seen 2"]
    steps = run.steps.collect()
    assert steps["evidence"].to_list() == ["request", "unknown", "unknown"]
    assert seen(steps.row(0, named=True)) == {0, 1}
    assert "what stands before it is read" in run.problems.collect()["reason"][0]


def test_behind_the_end_of_a_cut_history_nothing_is_said_of_requests(tmp_path: Path) -> None:
    session = Session()
    for number in range(4):
        session.step(f"say {number}", f"ls {number}", f"seen {number}")
    session.history = session.history[:4]
    run = load(tmp_path, session.file())
    assert events(run, "tool_result").height == 4
    steps = run.steps.collect()
    assert steps["evidence"].to_list() == ["request", "request", "unknown", "unknown"]
    assert seen(steps.row(1, named=True)) == set(range(steps["seq"][1]))


def test_what_is_no_message_or_step_is_a_problem(tmp_path: Path) -> None:
    session = Session()
    session.step("one", "ls", "a")
    history = [*session.history, 5]
    run = load(tmp_path, {"history": history, "trajectory": [*session.trajectory, "x"], "info": 3})
    assert run.problems.collect()["position"].to_list() == ["/history/4", "/trajectory/1"]
    assert row(run)["steps"] == 1
    with pytest.raises(loaders.LoadError, match="neither a trajectory nor a history"):
        load(tmp_path, {"x": 1})


HOSTILE: list[Any] = [None, 0, -1, 1e400, "x", "", [], {}, [None], [[]], {"a": 1}, True]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_wrong_types_anywhere_do_not_stop_the_reader(tmp_path: Path, value: Any) -> None:
    session = Session()
    session.step("one", "ls", "a", tool_calls=[call("c1")], thinking_blocks=[thinking("t")])
    session.history[-1].update(role="tool", tool_call_ids=["c1"])
    session.rejected("no command", "", "Give one.", then="id")
    session.trajectory[0]["messages"] = session.trajectory[0]["query"]
    model = {"name": "m", "temperature": 0}
    docs = "look:\n  docstring: d\n  signature: look"
    agent = {"model": model, "tools": {"command_docs": docs}}
    info = {"model_stats": {"tokens_sent": 1}, "review": {"accept": 1}, "submission": "p"}
    config = {"agent": agent, "env": {"repo": {}}, "problem_statement": {"id": "a"}}
    record = session.file(info=info, replay_config=config)
    item = {"role": "ai", "text": "x", "system_prompt": None}
    row_ = {"instance_id": "a", "trajectory": [item], "target": True, "eval_logs": "x"}
    whole = [record, row_, {"attempts": [Session().file()]}]
    paths = list(paths_of(whole))
    for number, path in enumerate(paths):
        file = tmp_path / f"{number}.traj"
        file.write_text(json.dumps(replaced(whole, path, value)))
        swe_agent.sniff(Source(file).head)
    runs = loaders.load(tmp_path, format="swe_agent")
    assert runs.problems.filter(pl.col("reason").str.contains("Error: ")).collect().is_empty()
    assert len(runs) > 2 * len(paths)


def paths_of(value: Any, prefix: tuple[Any, ...] = ()) -> Any:
    """Every place inside a decoded JSON value."""
    yield prefix
    if isinstance(value, dict | list):
        keys = value.keys() if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield from paths_of(value[key], (*prefix, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at one place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def test_a_long_run_takes_linear_time(tmp_path: Path) -> None:
    history, steps = prologue(), []
    for number in range(20_000):
        text = "same" if number % 2 else f"say {number}"
        history += [entry("assistant", text, action="ls"), entry("user", "seen")]
        steps.append({"response": text, "action": "ls", "observation": "seen", "state": {}})
        steps.append({"response": f"not kept {number}", "action": "", "observation": ""})
    with at_most(10):
        run = load(tmp_path, {"trajectory": steps, "history": history, "info": {}})
    assert row(run)["steps"] == 40_000
