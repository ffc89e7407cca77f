"""mini-swe-agent against figures counted from the raw files, and variants written here."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import mini_swe_agent
from loaders.sources import Source

ASTROPY = "astropy__astropy-12907"
PVLIB = "pvlib__pvlib-python-1072"
FENCE = "```"


@pytest.fixture(scope="module")
def folder(real_logs: Path) -> Path:
    return real_logs / "mini_swe_agent"


@pytest.fixture(scope="module")
def runs(folder: Path) -> Trajectories:
    return loaders.load(folder / "*.traj.json", format="mini_swe_agent")


def one(runs: Trajectories, name: str) -> Trajectories:
    found = runs.filter(pl.col("source").str.ends_with(f"/{name}.traj.json"))
    assert len(found) == 1
    return found


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def raw(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.traj.json").read_text())


def load(path: Path, value: Any, name: str = "run.traj.json") -> Trajectories:
    (path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return loaders.load(path / name, format="mini_swe_agent")


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def places_lead_back(runs: Trajectories) -> bool:
    """Whether the raw record behind each event with a text holds this text."""
    for event in runs.events.collect().iter_rows(named=True):
        record = runs.raw(event["trajectory_id"], event["seq"])
        if event["text"] is not None and event["text"] not in str(record):
            return False
    return True


# ---------------------------------------------------------------------- real files


def test_every_file_of_the_format_is_recognised_and_no_other(real_logs: Path) -> None:
    claimed = {
        file.relative_to(real_logs).as_posix()
        for file in real_logs.rglob("*")
        if file.is_file() and mini_swe_agent.sniff(Source(file).head)
    }
    own = {f"mini_swe_agent/{file.name}" for file in (real_logs / "mini_swe_agent").glob("*.json")}
    assert len(own) == 4
    assert claimed == own


@pytest.mark.parametrize(
    ("name", "calls", "results"), [(ASTROPY, 64, 63), (PVLIB, 15, 15)], ids=["astropy", "pvlib"]
)
def test_calls_and_results_are_those_of_the_raw_file(
    runs: Trajectories, folder: Path, name: str, calls: int, results: int
) -> None:
    messages = raw(folder, name)["messages"]
    asked = [c for m in messages if m["role"] == "assistant" for c in m["tool_calls"]]
    answers = [m for m in messages if m["role"] == "tool"]
    assert (len(asked), len(answers)) == (calls, results)
    run = one(runs, name)
    called, came = events(run, "tool_call"), events(run, "tool_result")
    assert called["call_id"].to_list() == [c["id"] for c in asked]
    assert called["arguments"].to_list() == [c["function"]["arguments"] for c in asked]
    assert came["call_id"].to_list() == [m["tool_call_id"] for m in answers]
    assert came["text"].to_list() == [m["content"] for m in answers]
    assert came["exit_code"].to_list() == [m["extra"]["returncode"] for m in answers]
    flags = [m["extra"]["exception_info"] != "" for m in answers]
    assert came["is_error"].to_list() == flags
    assert came["error_type"].to_list() == [m["extra"].get("exception_type") for m in answers]
    assert sum(flags) == (2 if name == PVLIB else 0)
    assert came["truncated"].to_list() == [False] * results
    linked = came.join(called, left_on="call_seq", right_on="seq")
    assert (linked["call_id"] == linked["call_id_right"]).all()
    assert linked.height == results
    assert row(run)["unanswered_calls"] == calls - results
    assert row(run)["orphan_results"] == 0


def test_the_exit_message_is_no_turn(runs: Trajectories, folder: Path) -> None:
    exits = raw(folder, ASTROPY)["messages"][-1], raw(folder, PVLIB)["messages"][-1]
    assert [e["role"] for e in exits] == ["exit", "exit"]
    submitted = events(one(runs, ASTROPY)).row(-1, named=True)
    assert (submitted["kind"], submitted["actor"]) == ("other", "exit")
    assert submitted["text"] == exits[0]["content"]
    broken = events(one(runs, PVLIB)).row(-1, named=True)
    assert (broken["kind"], broken["error_type"]) == ("error", "InternalServerError")
    assert broken["text"] == exits[1]["content"]
    assert events(runs, "user")["actor"].null_count() == 4
    assert events(runs, "user").height == 4


def test_submitting_is_no_success_and_an_error_is_one(runs: Trajectories) -> None:
    ends = {name: row(one(runs, name)) for name in (ASTROPY, PVLIB, "local")}
    assert [(e["outcome"], e["end_reason"], e["success"]) for e in ends.values()] == [
        ("unknown", "Submitted", None),
        ("error", "InternalServerError", None),
        ("unknown", None, None),
    ]


def test_the_call_that_failed_is_a_step_without_a_reply(runs: Trajectories, folder: Path) -> None:
    record = raw(folder, PVLIB)
    assert record["info"]["model_stats"]["api_calls"] == 16
    assert sum(m["role"] == "assistant" for m in record["messages"]) == 15
    steps = one(runs, PVLIB).steps.collect()
    assert steps.height == 16
    assert steps["error"].to_list() == [None] * 15 + ["InternalServerError"]
    assert steps["source_pos"][15] == "/messages/32"
    assert one(runs, ASTROPY).steps.collect()["error"].null_count() == 64


def test_reasoning_that_stands_four_times_is_told_once(runs: Trajectories, folder: Path) -> None:
    replies = [m for m in raw(folder, PVLIB)["messages"] if m["role"] == "assistant"]
    for reply in replies:
        answer = reply["extra"]["response"]["choices"][0]["message"]
        places = (
            reply,
            reply["provider_specific_fields"],
            answer,
            answer["provider_specific_fields"],
        )
        assert len({place["reasoning_content"] for place in places}) == 1
    run = one(runs, PVLIB)
    thinking = events(run, "thinking")
    assert thinking["text"].to_list() == [reply["reasoning_content"] for reply in replies]
    assert thinking["thinking_state"].unique().to_list() == ["text"]
    steps = run.steps.collect()
    assert steps["thinking"].to_list() == ["text"] * 15 + ["absent"]
    assert steps["thinking_available"].to_list() == list(range(16))
    assert events(run, "message").height == sum(bool(reply["content"]) for reply in replies)


def test_nothing_is_said_of_what_was_sent_back(runs: Trajectories) -> None:
    steps = runs.steps.collect()
    assert steps["thinking_sent"].null_count() == steps.height == 64 + 16 + 10 + 2
    assert steps["evidence"].unique().to_list() == ["unknown"]


def test_tokens_cost_times_and_models(runs: Trajectories, folder: Path) -> None:
    for name in (ASTROPY, PVLIB):
        record = raw(folder, name)
        replies = [m["extra"] for m in record["messages"] if m["role"] == "assistant"]
        usage = [reply["response"]["usage"] for reply in replies]
        run, steps = row(one(runs, name)), one(runs, name).steps.collect().head(len(replies))
        assert steps["input_tokens"].to_list() == [u["prompt_tokens"] for u in usage]
        assert run["input_tokens"] == sum(u["prompt_tokens"] for u in usage)
        assert run["output_tokens"] == sum(u["completion_tokens"] for u in usage)
        assert run["cached_tokens"] == sum(u["prompt_cache_hit_tokens"] for u in usage)
        assert run["cost_usd"] == record["info"]["model_stats"]["instance_cost"]
        assert run["model"] == record["info"]["config"]["model"]["model_name"]
        assert steps["model"].unique().to_list() == [replies[0]["response"]["model"]]
        times = [t.timestamp() for t in steps["ended_at"]]
        assert times == pytest.approx([reply["timestamp"] for reply in replies], abs=1e-5)
        reasons = [reply["response"]["choices"][0]["finish_reason"] for reply in replies]
        assert steps["stop_reason"].to_list() == reasons
        came = events(one(runs, name), "tool_result")["started_at"]
        told = [m["extra"]["timestamp"] for m in record["messages"] if m["role"] == "tool"]
        assert [t.timestamp() for t in came] == pytest.approx(told, abs=1e-5)
        asked = events(one(runs, name), "tool_call")
        assert (asked["started_at"].head(15) == steps["ended_at"].head(15)).all()
    assert row(one(runs, PVLIB))["reasoning_tokens"] == 2808
    assert row(one(runs, ASTROPY))["reasoning_tokens"] is None


def test_what_the_run_was_made_with(runs: Trajectories) -> None:
    run = row(one(runs, ASTROPY))
    assert (run["format_version"], run["framework_version"]) == ("1.1", "2.3.0")
    assert (run["task_id"], run["provider"]) == (ASTROPY, "deepseek")
    assert json.loads(run["params"])["temperature"] == 0.0
    metadata = json.loads(run["metadata"])
    assert metadata["environment"]["cwd"] == "/testbed"
    assert (metadata["step_limit"], metadata["api_calls"]) == (250, 64)
    assert metadata["patch_repair"]["rounds_used"] == 2
    assert json.loads(row(one(runs, PVLIB))["metadata"])["traceback"].startswith("Traceback")
    same = [row(one(runs, name)) for name in (ASTROPY, PVLIB)]
    assert same[0]["environment"] != same[1]["environment"]
    assert same[0]["system_prompt"] == same[1]["system_prompt"]


@pytest.mark.parametrize(("name", "replies"), [("github_issue", 10), ("local", 2)])
def test_bare_lists_have_their_calls_in_the_text(
    runs: Trajectories, folder: Path, name: str, replies: int
) -> None:
    messages = raw(folder, name)
    said = [m["content"] for m in messages if m["role"] == "assistant"]
    commands = [text.split("\n```mswea_bash_command\n")[1].split("\n```")[0] for text in said]
    run = one(runs, name)
    called, came = events(run, "tool_call"), events(run, "tool_result")
    assert len(said) == replies
    assert [json.loads(a) for a in called["arguments"]] == [{"command": c} for c in commands]
    assert called["tool"].unique().to_list() == ["bash"]
    assert events(run, "message")["text"].to_list() == said
    assert came["text"].to_list() == [m["content"] for m in messages[3::2]]
    assert came["call_seq"].to_list() == called["seq"].to_list()
    codes = [m["content"].partition("<returncode>")[2].partition("<")[0] for m in messages[3::2]]
    assert came["exit_code"].to_list() == [int(code) if code else None for code in codes]
    assert came["is_error"].null_count() == replies


def test_every_event_leads_back_to_its_record(runs: Trajectories) -> None:
    assert places_lead_back(runs)
    assert events(runs)["source_pos"].null_count() == 0
    assert runs.problems.collect().is_empty()


# ---------------------------------------------------------------------- variants


def system_and_task() -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Use bash."}, {"role": "user", "content": "Fix it."}]


def fenced(command: str, fence: str = "bash") -> str:
    return f"I will.\n\n{FENCE}{fence}\n{command}\n{FENCE}"


def test_the_mark_at_the_end_of_a_big_file_is_found(tmp_path: Path) -> None:
    messages = [*system_and_task(), {"role": "assistant", "content": "word " * 9000}]
    record = {"messages": messages, "trajectory_format": "mini-swe-agent-1"}
    (tmp_path / "a.json").write_text(json.dumps(record))
    (tmp_path / "b.json").write_text(json.dumps({"messages": messages, "trajectory": "other"}))
    (tmp_path / "a.json.gz").write_bytes(gzip.compress((tmp_path / "a.json").read_bytes()))
    found = {f.name for f in tmp_path.iterdir() if mini_swe_agent.sniff(Source(f).head)}
    assert found == {"a.json", "a.json.gz"}


def test_a_bare_list_needs_the_name_and_the_style(tmp_path: Path) -> None:
    styled = [*system_and_task(), {"role": "assistant", "content": fenced("ls")}]
    for name, value in (
        ("a.traj.json", styled),
        ("b.json", styled),
        ("c.traj.json", system_and_task()),
        ("d.traj.json", [1, 2]),
        ("e.traj.json", [{"role": ["x"], "content": fenced("ls")}]),
    ):
        (tmp_path / name).write_text(json.dumps(value))
    found = {f.name for f in tmp_path.iterdir() if mini_swe_agent.sniff(Source(f).head)}
    assert found == {"a.traj.json"}


def version_1(status: str, last: str, replies: int = 1) -> dict[str, Any]:
    """A run as version 1 wrote it: reasoning in the response alone, the end as a user message."""
    messages = system_and_task()
    for number in range(replies):
        answer = {"role": "assistant", "content": "same", "reasoning_content": f"thought {number}"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        response = {"model": "m-1", "choices": [{"message": answer}], "usage": usage}
        extra = {"response": response}
        messages += [
            {"role": "assistant", "content": fenced(f"ls {number}"), "extra": extra},
            {"role": "user", "content": f"<returncode>{number}</returncode>\n<output>\n</output>"},
        ]
    info = {
        "exit_status": status,
        "submission": last,
        "mini_version": "1.14.0",
        "model_stats": {"api_calls": replies, "instance_cost": 0.5},
    }
    messages.append({"role": "user", "content": last})
    return {"info": info, "messages": messages, "trajectory_format": "mini-swe-agent-1"}


def test_version_1_keeps_reasoning_in_the_response_alone(tmp_path: Path) -> None:
    run = load(tmp_path, version_1("LimitsExceeded", "", replies=2))
    thinking = events(run, "thinking")
    assert thinking["text"].to_list() == ["thought 0", "thought 1"]
    assert thinking["source_pos"][1] == (
        "/messages/4/extra/response/choices/0/message/reasoning_content"
    )
    assert events(run, "tool_result")["exit_code"].to_list() == [0, 1]
    assert row(run)["format_version"] == "1"
    assert places_lead_back(run)


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        ("LimitsExceeded", "other", "limit"),
        ("KeyboardInterrupt", "other", "cancelled"),
        ("RuntimeError", "error", "error"),
    ],
)
def test_the_last_user_message_of_version_1_is_the_end(
    tmp_path: Path, status: str, kind: str, outcome: str
) -> None:
    run = load(tmp_path, version_1(status, f"why: {status}"))
    last = events(run).row(-1, named=True)
    assert (last["kind"], last["text"]) == (kind, f"why: {status}")
    assert (row(run)["outcome"], row(run)["end_reason"]) == (outcome, status)
    assert events(run, "user").height == 1
    assert row(run)["steps"] == 1


def test_what_version_1_submits_is_what_its_last_command_printed(tmp_path: Path) -> None:
    record = version_1("Submitted", "the patch")
    del record["messages"][3]
    run = load(tmp_path, record)
    assert events(run, "tool_result")["text"].to_list() == ["the patch"]
    assert row(run)["unanswered_calls"] == 0


@pytest.mark.parametrize(
    "status",
    ["TimeExceeded", "LimitsExceeded", "ContextWindowExceededError", "RepeatedFormatError"],
)
def test_limits_are_told_from_errors(tmp_path: Path, status: str) -> None:
    end = {"role": "exit", "content": status, "extra": {"exit_status": status}}
    run = load(tmp_path, {"info": {}, "messages": [*system_and_task(), end]})
    expected = "error" if status == "RepeatedFormatError" else "limit"
    assert (row(run)["outcome"], row(run)["end_reason"]) == (expected, status)


def test_an_evaluation_in_the_log_decides(tmp_path: Path) -> None:
    info = {"exit_status": "LimitsExceeded", "resolved": True}
    run = load(tmp_path, {"info": info, "messages": system_and_task()})
    assert (row(run)["outcome"], row(run)["success"]) == ("success", True)


@pytest.mark.parametrize("count", [0, 2])
def test_with_no_action_or_several_nothing_was_run(tmp_path: Path, count: int) -> None:
    text = "Hm. " + "\n".join(fenced(f"ls {n}") for n in range(count))
    again = {"role": "user", "content": "Please give exactly one action."}
    messages = [*system_and_task(), {"role": "assistant", "content": text}, again]
    run = load(tmp_path, messages)
    assert events(run, "tool_call").is_empty()
    assert events(run, "user")["text"].to_list() == ["Fix it.", again["content"]]


@pytest.mark.parametrize(
    "text",
    [
        fenced("ls -la"),
        fenced("ls -la", "mswea_bash_command"),
        fenced("ls -la", "bash  "),
        "So: <mswea_bash_command>ls -la</mswea_bash_command>",
        f"{FENCE}python\nprint()\n{FENCE}\nthen {fenced('ls -la')}",
    ],
)
def test_ways_to_write_an_action(tmp_path: Path, text: str) -> None:
    run = load(tmp_path, [*system_and_task(), {"role": "assistant", "content": text}])
    assert events(run, "tool_call")["arguments"].to_list() == ['{"command":"ls -la"}']
    assert row(run)["unanswered_calls"] == 1


def test_logged_actions_are_the_calls_where_the_text_is_not_parsed(tmp_path: Path) -> None:
    reply = {
        "role": "assistant",
        "content": "<run>ls</run>",
        "extra": {"actions": [{"command": "ls"}, {"command": "pwd"}], "cost": 0.25},
    }
    answers = [
        {"role": "user", "content": text, "extra": {"returncode": code, "raw_output": text}}
        for text, code in (("a b", 0), ("/x", 2))
    ]
    record = {"info": {}, "messages": [*system_and_task(), reply, *answers]}
    run = load(tmp_path, record)
    called, came = events(run, "tool_call"), events(run, "tool_result")
    assert called["arguments"].to_list() == ['{"command":"ls"}', '{"command":"pwd"}']
    assert called["source_pos"][1] == "/messages/2/extra/actions/1"
    assert came["call_seq"].to_list() == called["seq"].to_list()
    assert came["exit_code"].to_list() == [0, 2]
    assert row(run)["cost_usd"] == 0.25
    assert places_lead_back(run)


def native(call_id: str, command: str) -> dict[str, Any]:
    call = {
        "id": call_id,
        "function": {"name": "bash", "arguments": json.dumps({"command": command})},
    }
    actions = [{"command": command, "tool_call_id": call_id}]
    extra = {"actions": actions, "timestamp": 1_700_000_000.5}
    return {"role": "assistant", "content": fenced(command), "tool_calls": [call], "extra": extra}


def answer(call_id: str, text: str, **extra: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text, "extra": extra}


def test_a_native_call_is_not_told_again_from_the_text_or_the_actions(tmp_path: Path) -> None:
    messages = [*system_and_task(), native("c1", "ls"), answer("c1", "a")]
    run = load(tmp_path, {"info": {}, "messages": messages})
    assert events(run, "tool_call")["call_id"].to_list() == ["c1"]
    assert events(run, "tool_result")["call_seq"].to_list() == [3]


def test_exceptions_are_the_error_flag_and_return_codes_are_not(tmp_path: Path) -> None:
    failed = {"returncode": -1, "exception_info": "timed out", "exception_type": "TimeoutExpired"}
    messages = [
        *system_and_task(),
        native("c1", "sleep 99"),
        answer("c1", "<exception>timed out</exception>\n<returncode>-1</returncode>", **failed),
        native("c2", "grep x"),
        answer("c2", "", returncode=1, exception_info=""),
        native("c3", "ls"),
        answer("c3", "", returncode=0),
    ]
    came = events(load(tmp_path, {"info": {}, "messages": messages}), "tool_result")
    assert came["is_error"].to_list() == [True, False, None]
    assert came["error_type"].to_list() == ["TimeoutExpired", None, None]
    assert came["exit_code"].to_list() == [-1, 1, 0]


def test_truncation_is_the_frameworks_word_unless_the_raw_output_is_all_there(
    tmp_path: Path,
) -> None:
    cut = "<output_head>aa</output_head>\n<elided_chars>\n9 characters elided\n</elided_chars>"
    messages = [
        *system_and_task(),
        native("c1", "cat big"),
        answer("c1", cut, raw_output="aa and so on"),
        native("c2", "cat prompt"),
        answer("c2", f"<output>\n{cut}</output>", raw_output=f"{cut}\n"),
        native("c3", "ls"),
        answer("c3", "a"),
        {"role": "assistant", "content": fenced("cat big")},
        {"role": "user", "content": cut},
    ]
    came = events(load(tmp_path, {"info": {}, "messages": messages}), "tool_result")
    assert came["truncated"].to_list() == [True, False, None, True]


def test_a_reply_behind_a_format_error_is_a_model_call(tmp_path: Path) -> None:
    error = {"interrupt_type": "FormatError"}
    fields = {"reasoning_content": "hm"}
    answer_0 = {"role": "assistant", "content": fenced("ls"), "provider_specific_fields": fields}
    response = {
        "model": "m-1",
        "choices": [{"message": answer_0, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }
    messages = [
        *system_and_task(),
        {"role": "user", "content": "no call", "extra": {**error, "response": response, "cost": 1}},
        {
            "role": "user",
            "content": "no call",
            "extra": {**error, "model_response": "<think>a</think>b"},
        },
        {"role": "user", "content": "no call", "extra": {**error, "response": "repr(...)"}},
        {
            "role": "exit",
            "content": "RepeatedFormatError",
            "extra": {"exit_status": "RepeatedFormatError"},
        },
    ]
    info = {"model_stats": {"api_calls": 3}}
    run = load(tmp_path, {"info": info, "messages": messages})
    steps = run.steps.collect()
    assert steps["thinking"].to_list() == ["text", "tagged_in_text", "not_logged"]
    assert steps["input_tokens"].to_list() == [7, None, None]
    assert steps["stop_reason"].to_list() == ["length", None, None]
    assert steps["error"].null_count() == 3
    kinds = events(run)["kind"].to_list()[2:]
    lost = ["thinking", "message", "user"]
    assert kinds == [*lost, *lost, "other", "user", "error"]
    assert row(run)["cost_usd"] == 1
    assert places_lead_back(run)


def test_a_format_error_behind_its_reply_is_no_second_call(tmp_path: Path) -> None:
    messages = [
        *system_and_task(),
        {"role": "assistant", "content": "no block"},
        {"role": "user", "content": "one!", "extra": {"interrupt_type": "FormatError"}},
    ]
    run = load(tmp_path, {"info": {}, "messages": messages})
    assert row(run)["steps"] == 1
    assert events(run, "user")["error_type"].to_list() == [None, "FormatError"]


@pytest.mark.parametrize("words", [[], ["No!"]], ids=["silent", "said"])
def test_a_persons_word_and_command_are_no_results_of_the_model(
    tmp_path: Path, words: list[str]
) -> None:
    rejection = {"interrupt_type": "UserRejection"}
    messages = [
        *system_and_task(),
        {"role": "assistant", "content": fenced("rm -r /"), "extra": {}},
        *({"role": "user", "content": word, "extra": rejection} for word in words),
        {"role": "user", "content": "User command: ls", "extra": {"actions": [{"command": "ls"}]}},
        {"role": "user", "content": "a b", "extra": {"returncode": 0}},
    ]
    run = load(tmp_path, {"info": {}, "messages": messages})
    called, came = events(run, "tool_call"), events(run, "tool_result")
    assert called["actor"].to_list() == [None, "user"]
    assert came["call_seq"].to_list() == [called["seq"][1]]
    assert events(run, "user")["text"].to_list() == ["Fix it.", *words, "User command: ls"]
    assert row(run)["unanswered_calls"] == 1


def test_a_result_by_id_leaves_the_next_user_message_alone(tmp_path: Path) -> None:
    messages = [
        *system_and_task(),
        native("c1", "ls"),
        answer("c1", "a"),
        {"role": "user", "content": "Also fix that."},
    ]
    run = load(tmp_path, {"info": {}, "messages": messages})
    assert events(run, "user")["text"].to_list() == ["Fix it.", "Also fix that."]
    assert row(run)["orphan_results"] == 0


def test_messages_of_the_responses_api(tmp_path: Path) -> None:
    items = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "in short"}]},
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        {"type": "message", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "c1", "name": "bash", "arguments": '{"command":"ls"}'},
    ]
    usage = {
        "input_tokens": 20,
        "output_tokens": 9,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens_details": {"reasoning_tokens": 4},
    }
    reply = {
        "object": "response",
        "model": "m-5",
        "status": "completed",
        "output": items,
        "usage": usage,
        "extra": {"actions": [{"command": "ls", "tool_call_id": "c1"}], "cost": 0.1},
    }
    came = {
        "type": "function_call_output",
        "call_id": "c1",
        "output": "a b",
        "extra": {"returncode": 0},
    }
    error = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "no call"}],
        "extra": {"interrupt_type": "FormatError", "response": {**reply, "output": items[2:3]}},
    }
    record = {"info": {}, "messages": [*system_and_task(), reply, came, error]}
    run = load(tmp_path, record)
    thinking = events(run, "thinking")
    assert thinking["thinking_state"].to_list() == ["summary", "hidden"]
    assert thinking["signature"].to_list() == [None, "gAAA"]
    assert events(run, "message")["text"].to_list() == ["Let me see."] * 2
    assert events(run, "tool_call")["call_id"].to_list() == ["c1"]
    result = events(run, "tool_result").row(0, named=True)
    assert (result["text"], result["call_seq"], result["exit_code"]) == ("a b", 5, 0)
    assert result["source_pos"] == "/messages/3/output"
    first = run.steps.collect().row(0, named=True)
    assert (first["input_tokens"], first["output_tokens"]) == (20, 9)
    assert (first["reasoning_tokens"], first["cached_tokens"]) == (4, 8)
    assert (first["model"], first["stop_reason"]) == ("m-5", "completed")
    assert row(run)["steps"] == 2
    assert places_lead_back(run)


def test_tools_and_credentials_in_the_settings(tmp_path: Path) -> None:
    tool = {
        "type": "function",
        "function": {"name": "bash", "description": "Run.", "parameters": {}},
    }
    kwargs = {"api_key": "not-for-you", "temperature": 1, "tools": [tool]}
    config = {"model": {"model_name": "m-1", "model_kwargs": kwargs}}
    run = load(tmp_path, {"info": {"config": config}, "messages": system_and_task()})
    assert run.tools.collect()["name"].to_list() == ["bash"]
    assert "not-for-you" not in row(run)["params"]
    assert json.loads(row(run)["params"])["temperature"] == 1
    assert row(run)["provider"] is None


def test_several_runs_in_lines_or_in_a_list(tmp_path: Path) -> None:
    records = [{**version_1("Submitted", "x"), "instance_id": f"t-{n}"} for n in range(3)]
    lines = load(tmp_path, "\n".join(map(json.dumps, records)), "all.jsonl")
    array = load(tmp_path, records, "all.json")
    for runs in (lines, array):
        assert runs.trajectories.collect()["task_id"].to_list() == ["t-0", "t-1", "t-2"]
        assert places_lead_back(runs)


# ---------------------------------------------------------------------- broken logs


def test_a_file_cut_short_keeps_what_stands_before(tmp_path: Path) -> None:
    text = json.dumps(version_1("Submitted", "x", replies=3), indent=1)
    run = load(tmp_path, text[: text.index("ls 2")])
    assert events(run, "tool_call").height == 2
    problems = run.problems.collect()
    assert problems["severity"].to_list() == ["error"]
    assert "what stands before it is read" in problems["reason"][0]


def test_what_is_no_message_is_a_problem_and_the_rest_is_read(tmp_path: Path) -> None:
    messages = [*system_and_task(), "oops", 7, {"role": "assistant", "content": fenced("ls")}]
    run = load(tmp_path, {"info": {}, "messages": messages})
    assert run.problems.collect()["position"].to_list() == ["/messages/2", "/messages/3"]
    assert events(run, "tool_call").height == 1


def test_a_record_without_messages_is_a_run_and_a_problem(tmp_path: Path) -> None:
    run = load(tmp_path, {"info": {"exit_status": "DockerError"}, "messages": None})
    assert (row(run)["outcome"], row(run)["events"]) == ("error", 0)
    assert run.problems.collect()["reason"].to_list() == ["no list of messages"]
    with pytest.raises(loaders.LoadError, match="neither an object nor a list"):
        load(tmp_path, 5)


HOSTILE: list[Any] = [None, 0, -1, 1e400, "x", "", [], {}, [None], [[]], {"a": 1}, True]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_wrong_types_anywhere_do_not_stop_the_reader(tmp_path: Path, value: Any) -> None:
    record = version_1("RuntimeError", "x", replies=1)
    record["messages"] += [native("c1", "ls"), answer("c1", "a", returncode=0, timestamp=1.0)]
    record["messages"].append({"object": "response", "output": [{"type": "reasoning"}]})
    record["info"]["config"] = {"model": {"model_kwargs": {}}, "agent": {}, "environment": {}}
    paths = list(paths_of(record))
    for number, path in enumerate(paths):
        file = tmp_path / f"{number}.traj.json"
        file.write_text(json.dumps(replaced(record, path, value)))
        mini_swe_agent.sniff(Source(file).head)
    runs = loaders.load(tmp_path, format="mini_swe_agent")
    assert runs.problems.filter(pl.col("reason").str.contains("Error: ")).collect().is_empty()
    assert len(runs) >= len(paths) - 1


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


def test_openings_without_an_end_take_linear_time(tmp_path: Path) -> None:
    text = f"x {FENCE}bash\n <mswea_bash_command> " * 40_000
    messages = [*system_and_task(), {"role": "assistant", "content": text}]
    started = time.perf_counter()
    load(tmp_path, messages)
    assert time.perf_counter() - started < 5
