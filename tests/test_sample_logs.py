"""The sample logs: their world, their agent, and the truth beside them against what is read."""

from __future__ import annotations

import gzip
import importlib
import json
import random
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders.archives import ZipArchive

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_logs"
GENERATE = SAMPLES / "generate"
KINDS = ("returned_error", "raised_error", "timeout", "empty", "truncated", "malformed", "stale")


class Generator:
    """The generator's modules, imported apart: their plain names are no package's."""

    def __init__(self) -> None:
        names = [path.stem for path in GENERATE.glob("*.py") if not path.stem.startswith("run_")]
        before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        sys.path.insert(0, str(GENERATE))
        self.modules = {name: importlib.import_module(name) for name in names if name != "make"}
        self._later = names, before

    def __getattr__(self, name: str) -> Any:
        return self.modules[name]

    def close(self) -> None:
        names, before = self._later
        sys.path.remove(str(GENERATE))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@pytest.fixture(scope="module")
def made() -> Iterator[Generator]:
    generator = Generator()
    yield generator
    generator.close()


@pytest.fixture(scope="module")
def faultless(made: Generator) -> Any:
    """An agent that never slips and always recovers."""
    sure = (1.0, 1.0)
    return made.agent.Parameters(
        misread=(0.0, 0.0),
        overlook=0.0,
        confuse=0.0,
        stop_early=(0.0, 0.0),
        recover_error=sure,
        recover_timeout=sure,
        recover_empty=sure,
        recover_broken=sure,
    )


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    return json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study() -> loaders.Trajectories:
    return loaders.load(SAMPLES / "study" / "{arm}" / "*.eval")


# ---------------------------------------------------------------- the world


def test_there_are_tasks_of_each_difficulty_in_each_domain(made: Generator) -> None:
    tasks = made.world.all_tasks()
    assert len(tasks) == len({task.id for task in tasks}) == 60
    kinds = {(task.domain, task.difficulty) for task in tasks}
    assert len(kinds) == 9


@pytest.mark.parametrize("history", ["all", "last", "none"])
def test_an_agent_that_never_slips_solves_every_task(
    made: Generator, faultless: Any, history: str
) -> None:
    for task in made.world.all_tasks():
        episode = made.offline.play(task, 1, history, faultless, {})
        assert episode.success, task.id
        assert 6 <= episode.steps <= 14, task.id


def test_the_checker_wants_the_state_and_the_answer(made: Generator) -> None:
    for task in made.world.all_tasks():
        desk = made.world.open_desk(task)
        changes = task.state != task.final_state
        assert desk.solved(task.answer) is not changes
        desk.state = json.loads(json.dumps(task.final_state))
        assert desk.solved(f" {task.answer} ")
        assert not desk.solved(f"1{task.answer}")
        assert not desk.solved(None)


def test_tools_refuse_nonsense_and_never_crash(made: Generator) -> None:
    rng = random.Random(7)
    odd = ["x", 3, None, 5.0, True, "A-1", "May 5"]
    for task in made.world.all_tasks():
        desk = made.world.open_desk(task)
        keys = [key for part in task.state.values() if isinstance(part, dict) for key in part]
        pool = [*odd, *keys, *task.state]
        for _ in range(100):
            tool = rng.choice(list(desk.tools.values()))
            response = desk.call(tool.name, {name: rng.choice(pool) for name in tool.parameters})
            json.loads(response)
    desk = made.world.open_desk(made.world.all_tasks()[0])
    assert "no tool" in desk.call("fly", {})
    assert "takes" in desk.call("find_customer", {})


# ---------------------------------------------------------------- the agent


def _request(made: Generator, task: Any, replies: int, history: str, params: Any) -> list[Any]:
    """The messages of a run's request after so many replies."""
    desk = made.world.open_desk(task)
    tools = [tool.definition() for tool in desk.tools.values()]
    messages: list[Any] = [{"role": "user", "content": task.text}]
    for step in range(replies):
        seen = made.offline.sent_back(messages, history)
        reply = made.agent.respond(seen, tools, "seed", params)
        function = {"name": reply.tool, "arguments": reply.arguments}
        call = {"id": f"c{step}", "type": "function", "function": function}
        said = {"role": "assistant", "content": reply.text, "reasoning_content": reply.thinking}
        response = desk.call(reply.tool, json.loads(reply.arguments))
        messages += [
            {**said, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{step}", "content": response},
        ]
    return made.offline.sent_back(messages, history)


def test_findings_stand_in_the_thinking_and_never_in_what_it_says(
    made: Generator, faultless: Any
) -> None:
    for task in made.world.all_tasks():
        messages = _request(made, task, 4, "all", faultless)
        said = [m for m in messages if m["role"] == "assistant"]
        assert all("Noted: " in m["reasoning_content"] for m in said[1:])
        assert not any(re.search(r"\d|Noted", m["content"]) for m in said)


def test_a_reply_follows_from_the_request_and_the_seed(made: Generator) -> None:
    task, params = made.world.all_tasks()[20], made.agent.MODELS["planner-1"]
    for history in ("all", "none"):
        messages = _request(made, task, 3, history, params)
        first = made.agent.respond(messages, [], "seed", params)
        assert first == made.agent.respond(json.loads(json.dumps(messages)), [], "seed", params)


def test_without_its_notes_it_repeats_itself(made: Generator, faultless: Any) -> None:
    forgetful = made.agent.Parameters(**{**vars(faultless), "overlook": 0.999, "task_sd": 0.0})
    task = made.world.all_tasks()[0]
    kept = made.offline.play(task, 1, "all", forgetful, {})
    dropped = made.offline.play(task, 1, "none", forgetful, {})
    assert kept.success
    assert not kept.slips
    assert len([what for _, what in dropped.slips if what.startswith("overlooked")]) > 3
    assert dropped.outcome == "limit"


def test_lost_notes_are_read_from_the_thinking_alone(made: Generator, faultless: Any) -> None:
    """A number changed in the notes is what it goes on with; changed in the response, it is not."""
    task = next(task for task in made.world.all_tasks() if task.id == "tables-easy-1")
    messages = _request(made, task, 6, "all", faultless)
    row = re.compile(r'(-> \[\["\w+", )(\d+)(, )(\d+)(, )(\d+)')
    other = r"\1 9001\3 9001\5 9001"

    def answer(changed: str) -> str:
        texts = [
            {**m, changed: row.sub(other, m[changed])} if changed in m else m for m in messages
        ]
        tools = list(made.world.tools_of("tables").values())
        reply = made.agent.respond(texts, [t.definition() for t in tools], "seed", faultless)
        return json.loads(reply.arguments).get("answer", reply.tool)

    assert answer("content") == answer("nothing")
    assert answer("reasoning_content") != answer("nothing")


# ---------------------------------------------------------------- perturbations

FAULT_OF = dict.fromkeys(("returned_error", "raised_error"), "error") | {
    "timeout": "timeout",
    "empty": "empty",
    "truncated": "broken",
    "malformed": "broken",
    "stale": None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_agent_can_tell_what_is_wrong_with_a_response(made: Generator, kind: str) -> None:
    hands = made.hands.JsonHands()
    for response in ('[{"order_id": "O-1", "status": "open"}]', '{"ok": true, "n": 4}'):
        try:
            text = made.perturb.perturbed(kind, lambda response=response: response)
        except made.perturb.ToolRaised as raised:
            text = str(raised)
        reading = hands.read(None, text)
        assert reading.fault == FAULT_OF[kind], text
        if kind == "stale":
            assert text != response
            assert reading.value == json.loads(response)


@pytest.mark.parametrize("kind", KINDS)
def test_who_always_recovers_is_not_harmed(made: Generator, faultless: Any, kind: str) -> None:
    for task in made.world.all_tasks()[::4]:
        for call in range(5):
            assert made.offline.play(task, 1, "all", faultless, {call: kind}).success


@pytest.mark.parametrize("kind", ["returned_error", "raised_error", "timeout"])
def test_who_never_recovers_stops_and_fails(made: Generator, faultless: Any, kind: str) -> None:
    never: dict[str, Any] = dict.fromkeys(("recover_error", "recover_timeout"), (0.0, 0.0))
    hopeless = made.agent.Parameters(**{**vars(faultless), **never, "stop_after_error": 1.0})
    for task in made.world.all_tasks()[::4]:
        episode = made.offline.play(task, 1, "none", hopeless, {2: kind})
        assert (episode.outcome, episode.steps) == ("failure", 4)


@pytest.mark.parametrize("history", ["all", "none"])
def test_stale_is_a_null(made: Generator, history: str) -> None:
    params = made.agent.MODELS["planner-1"]
    for task in made.world.all_tasks():
        plain = made.offline.play(task, 3, history, params, {})
        stale = made.offline.play(task, 3, history, params, dict.fromkeys(range(20), "stale"))
        assert (stale.success, stale.steps, stale.slips) == (
            plain.success,
            plain.steps,
            plain.slips,
        )


def test_perturbations_are_drawn_call_by_call(made: Generator) -> None:
    schedules = [made.perturb.schedule("task", trial) for trial in range(2000)]
    assert schedules[5] == made.perturb.schedule("task", 5)
    drawn = [kind for schedule in schedules for kind in schedule.values()]
    calls = 2000 * made.perturb.LAST_CALL
    assert abs(len(drawn) / calls - made.perturb.RATE_PER_CALL) < 0.006
    weights = made.perturb.WEIGHTS
    for kind in KINDS:
        assert abs(drawn.count(kind) / len(drawn) - weights[kind] / sum(weights.values())) < 0.025


# ---------------------------------------------------------------- the server


def _post(url: str, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_usage_adds_up_from_request_to_request(made: Generator, faultless: Any) -> None:
    task = made.world.all_tasks()[0]
    tools = [tool.definition() for tool in made.world.tools_of(task.domain).values()]
    with made.server.serving() as server:
        for arm, history in made.offline.ARMS.items():
            url = f"{server.base_url(arm, task.id, 1)}/chat/completions"
            usages, responses = [], []
            for replies in range(4):
                messages = _request(made, task, replies, history, faultless)
                status, answer = _post(
                    url, {"model": "planner-1", "messages": messages, "tools": tools}
                )
                assert status == 200
                usages.append(answer["usage"])
                responses.append(messages[-1])
            for before, after, response in zip(usages, usages[1:], responses[1:], strict=False):
                assert (
                    before["total_tokens"] == before["prompt_tokens"] + before["completion_tokens"]
                )
                reasoning = before["completion_tokens_details"]["reasoning_tokens"]
                assert 0 < reasoning < before["completion_tokens"]
                grown = after["prompt_tokens"] - before["prompt_tokens"]
                said = before["completion_tokens"] - (reasoning if arm == "dropped" else 0)
                assert grown == said + made.counting.tokens_of(response)
            record = server.records[arm, task.id, "1"]
            assert record.thinking_available == [0, 1, 2, 3]
            assert record.thinking_sent == ([0, 1, 2, 3] if arm == "kept" else [0, 0, 0, 0])


def test_the_server_says_what_it_can_not_do(made: Generator) -> None:
    with made.server.serving() as server:
        good = f"{server.base_url('kept', 'task', 1)}/chat/completions"
        assert _post(f"http://127.0.0.1:{server.server_port}/v1/models", {})[0] == 404
        assert _post(good, b"{")[0] == 400
        assert _post(good, {"model": "other", "messages": []})[0] == 404


# Clients of the three APIs, each in so few lines that it can't share a mistake with the server.

TALKS = {
    "chat": ("reasoning_content", "reasoning", "think_tags"),
    "responses": ("summary", "content", "chained"),
    "messages": ("thinking", "hidden"),
}
KEY = "sk-a-key-that-must-not-be-kept"


class Talk:
    """A run through one API, thinking sent back as its clients do it, or left out."""

    def __init__(self, made: Generator, server: Any, api: str, style: str, *arms: Any) -> None:
        self.api, self.style, (self.is_kept, self.is_streamed) = api, style, arms
        self.arm = f"{api}-{style}-{self.is_kept}-{self.is_streamed}"
        self.task = made.world.all_tasks()[0]
        self.visit = made.visit.Visit(self.task, 1, {})
        path = {"chat": "chat/completions"}.get(api, api)
        given = {"chained": "summary"}.get(style, style)
        self.url = f"{server.base_url(self.arm, self.task.id, 1, given)}/{path}"
        self.history: list[Any] = [{"role": "user", "content": self.task.text}]
        self.usages: list[tuple[int, int, int, int]] = []
        self.calls: list[tuple[str, str]] = []
        self.previous: str | None = None

    def play(self) -> None:
        """Until the model says its last word."""
        while self._turn():
            pass

    def _turn(self) -> bool:
        tools = [tool["function"] for tool in self.visit.definitions()]
        body: dict[str, Any] = {"model": "planner-1", "stream": self.is_streamed}
        if self.api == "responses":
            body |= {"input": self.history, "tools": [{"type": "function", **t} for t in tools]}
            body |= {"previous_response_id": self.previous} if self.previous else {}
            if self.style == "summary":
                body |= {"store": False, "include": ["reasoning.encrypted_content"]}
        elif self.api == "messages":
            schemas = [{**t, "input_schema": t["parameters"]} for t in tools]
            body |= {"messages": self.history, "tools": schemas, "max_tokens": 999}
        else:
            body |= {"messages": self.history, "tools": self.visit.definitions()}
            body |= {"stream_options": {"include_usage": True}} if self.is_streamed else {}
        request = urllib.request.Request(
            self.url,
            json.dumps(body).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {KEY}",
                "x-api-key": KEY,
            },
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            text = response.read().decode()
        call = getattr(self, f"_{self.api}")(text)
        if call is None:
            return False
        name, arguments, call_id = call
        given = json.loads(arguments)
        self.calls.append((name, json.dumps(given, sort_keys=True)))
        done = self.visit.submit(**given) if name == "submit" else self.visit.call(name, given)
        self.history.append(
            {
                "chat": {"role": "tool", "tool_call_id": call_id, "content": done},
                "responses": {
                    "type": "function_call_output",
                    "call_id": call_id,
                    "output": done,
                },
                "messages": {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": call_id, "content": done}],
                },
            }[self.api]
        )
        return True

    def _events(self, text: str) -> list[Any]:
        lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"]

    def _chat(self, text: str) -> tuple[str, str, str] | None:
        if self.is_streamed:
            chunks = self._events(text)
            usage = chunks[-1]["usage"]
            message: dict[str, Any] = {"role": "assistant"}
            for delta in (c["choices"][0]["delta"] for c in chunks if c["choices"]):
                for key in ("content", "reasoning_content", "reasoning"):
                    if key in delta:
                        message[key] = message.get(key, "") + delta[key]
                for part in delta.get("tool_calls", []):
                    calls = message.setdefault("tool_calls", [])
                    if part["index"] == len(calls):
                        calls.append(part)
                    else:
                        calls[-1]["function"]["arguments"] += part["function"]["arguments"]
        else:
            answer = json.loads(text)
            usage, message = answer["usage"], answer["choices"][0]["message"]
        details = usage["completion_tokens_details"]["reasoning_tokens"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        self.usages.append((usage["prompt_tokens"], cached, usage["completion_tokens"], details))
        if not self.is_kept:
            for key in ("reasoning_content", "reasoning", "reasoning_details"):
                message.pop(key, None)
            message["content"] = re.sub(r"<think>.*</think>", "", message["content"], flags=re.S)
        self.history.append(message)
        for call in message.get("tool_calls", []):
            return call["function"]["name"], call["function"]["arguments"], call["id"]
        return None

    def _responses(self, text: str) -> tuple[str, str, str] | None:
        if self.is_streamed:
            events = self._events(text)
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
            answer = events[-1]["response"]
            assert answer["output"] == done
        else:
            answer = json.loads(text)
        usage, output = answer["usage"], answer["output"]
        cached = usage["input_tokens_details"]["cached_tokens"]
        reasoning = usage["output_tokens_details"]["reasoning_tokens"]
        self.usages.append((usage["input_tokens"], cached, usage["output_tokens"], reasoning))
        if self.style == "chained" and self.is_kept:
            self.history, self.previous = [], answer["id"]
        else:
            self.history += [i for i in output if self.is_kept or i["type"] != "reasoning"]
        for item in output:
            if item["type"] == "function_call":
                return item["name"], item["arguments"], item["call_id"]
        return None

    def _messages(self, text: str) -> tuple[str, str, str] | None:
        if self.is_streamed:
            events = self._events(text)
            blocks = [e["content_block"] for e in events if e["type"] == "content_block_start"]
            for event in events:
                if event["type"] == "content_block_delta":
                    block, delta = blocks[event["index"]], dict(event["delta"])
                    ((key, piece),) = [(k, v) for k, v in delta.items() if k != "type"]
                    if key == "partial_json":
                        block["json"] = block.get("json", "") + piece
                    else:
                        block[key] = block.get(key, "") + piece
            for block in blocks:
                if "json" in block:
                    block["input"] = json.loads(block.pop("json"))
            usage = next(e["usage"] for e in events if e["type"] == "message_delta")
        else:
            answer = json.loads(text)
            blocks, usage = answer["content"], answer["usage"]
        cached = usage["cache_read_input_tokens"]
        self.usages.append((usage["input_tokens"] + cached, cached, usage["output_tokens"], 0))
        said = [block for block in blocks if self.is_kept or block["type"] != "thinking"]
        self.history.append({"role": "assistant", "content": said})
        for block in blocks:
            if block["type"] == "tool_use":
                return block["name"], json.dumps(block["input"]), block["id"]
        return None


@pytest.fixture(scope="module")
def talks(
    made: Generator, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Talk], dict[str, Any], Path]:
    """A run for each API, style, arm and way of answering; the server's records; the archive."""
    path = tmp_path_factory.mktemp("har") / "wire.har"
    with made.server.serving() as server:
        talks = [
            Talk(made, server, api, style, is_kept, is_streamed)
            for api, styles in TALKS.items()
            for style in styles
            for is_kept in (True, False)
            for is_streamed in (True, False)
        ]
        for talk in talks:
            talk.play()
        server.write_har(path)
        records = {run[0]: record for run, record in server.records.items()}
    return talks, records, path


def test_thinking_reaches_the_agent_through_every_api(
    made: Generator, talks: tuple[list[Talk], dict[str, Any], Path]
) -> None:
    all_talks, records, _ = talks
    task, params = all_talks[0].task, made.agent.MODELS["planner-1"]
    for talk in all_talks:
        record = records[talk.arm]
        replies = len(talk.usages)
        assert record.thinking_available == list(range(replies)), talk.arm
        sent = list(range(replies)) if talk.is_kept else [0] * replies
        assert record.thinking_sent == sent, talk.arm
        history = "all" if talk.is_kept else "none"
        played = made.offline.play(task, 1, history, params, {})
        assert (replies - 1, talk.visit.success) == (played.steps, played.success), talk.arm
        gone = ["notes are gone" in thought for thought in record.thoughts[2:-1]]
        assert all(gone) is not talk.is_kept
        assert any(gone) is not talk.is_kept
        assert not any(record.thinking_as_text)
    for is_kept in (True, False):
        assert len({tuple(talk.calls) for talk in all_talks if talk.is_kept is is_kept}) == 1
    kept, dropped = (next(t for t in all_talks if t.is_kept is kept) for kept in (True, False))
    assert records[kept.arm].thoughts != records[dropped.arm].thoughts


def test_usage_adds_up_in_every_api(
    made: Generator, talks: tuple[list[Talk], dict[str, Any], Path]
) -> None:
    for talk in talks[0]:
        thoughts = [made.counting.count(thought) for thought in talks[1][talk.arm].thoughts]
        for step, (before, after) in enumerate(zip(talk.usages, talk.usages[1:], strict=False)):
            prompt, _, completion, reasoning = before
            assert reasoning in (0, thoughts[step])
            assert (reasoning == 0) is (talk.api == "messages")
            assert completion > thoughts[step]
            said = completion - (0 if talk.is_kept else thoughts[step])
            assert after[0] > prompt + said
            assert after[1] == prompt, "what was sent before is cached"
        assert talk.usages[0][1] == 0
        same = next(t for t in talks[0] if t.is_kept is talk.is_kept and t.api == "chat")
        assert [usage[:3] for usage in talk.usages] == [usage[:3] for usage in same.usages]


def test_the_archive_tells_what_the_server_saw(
    talks: tuple[list[Talk], dict[str, Any], Path],
) -> None:
    _, records, path = talks
    assert KEY not in path.read_text(encoding="utf-8")
    read = loaders.load(path)
    assert _table(read, "problems").is_empty()
    rows = list(_table(read, "trajectories").iter_rows(named=True))
    assert {row["format"] for row in rows} == {"har"}
    assert len(rows) == len(records)
    steps = _table(read, "steps").sort("run", "step")
    assert set(steps["evidence"]) == {"wire"}
    by_run = {key[0]: frame for key, frame in steps.partition_by("run", as_dict=True).items()}
    for row in rows:
        arm = re.search(r"127\.0\.0\.1[^/]*/([^/]+)/", str(row["metadata"]))
        assert arm
        record, frame = records[arm[1]], by_run[row["run"]]
        assert frame["thinking_sent"].to_list() == record.thinking_sent, arm[1]
        assert frame["thinking_available"].to_list() == record.thinking_available, arm[1]


def test_thinking_sent_as_text_is_no_thinking(made: Generator) -> None:
    task = made.world.all_tasks()[0]
    said = [{"type": "text", "text": "Plan: none.\nI use it."}]
    call = {"type": "tool_use", "id": "t", "name": "find_customer", "input": {"name": "x"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "[]"}
    with made.server.serving() as server:
        url = f"{server.base_url('text', task.id, 1)}/messages"
        first = {"role": "user", "content": task.text}
        _, answer = _post(url, {"model": "planner-1", "messages": [first]})
        said = [{"type": "text", "text": answer["content"][0]["thinking"]}]
        history = [first, {"role": "assistant", "content": [*said, call]}]
        history.append({"role": "user", "content": [result]})
        assert _post(url, {"model": "planner-1", "messages": history})[0] == 200
        record = server.records["text", task.id, "1"]
        assert (record.thinking_sent, record.thinking_as_text) == ([0, 0], [0, 1])


def test_the_apis_refuse_what_the_real_ones_refuse(made: Generator) -> None:
    task = made.world.all_tasks()[0]
    seal = made.api.sealed("a")
    with made.server.serving() as server:
        base = server.base_url("odd", task.id, 1)

        def refused(path: str, **body: Any) -> tuple[int, str]:
            status, answer = _post(f"{base}/{path}", {"model": "planner-1", **body})
            return status, answer["error"]["message"]

        for block, why in (
            ({"thinking": "a"}, "signature: Field required"),
            ({"thinking": "a", "signature": "b"}, "Invalid `signature`"),
            ({"thinking": "b", "signature": seal}, "cannot be modified"),
        ):
            message = {"role": "assistant", "content": [{"type": "thinking", **block}]}
            status, text = refused("messages", messages=[message])
            assert status == 400
            assert why in text
        item = {"type": "reasoning", "id": "rs_1", "summary": []}
        assert refused("responses", input=[item])[0] == 404
        assert refused("responses", input=[{**item, "encrypted_content": "x"}])[0] == 400
        assert refused("responses", input=[{"type": "item_reference", "id": "x"}])[0] == 404
        assert "not found" in refused("responses", input="a", previous_response_id="r")[1]
        assert "no conversations" in refused("responses", input="a", conversation="c")[1]
        assert refused("chat/completions", messages=["odd"])[0] == 400
        assert refused("responses")[0] == 400


def test_a_response_that_is_not_stored_can_not_be_gone_on_from(made: Generator) -> None:
    with made.server.serving() as server:
        url = f"{server.base_url('odd', 'task', 1)}/responses"
        for store, status in ((True, 200), (False, 400)):
            body = {"model": "planner-1", "input": "hello", "store": store}
            name = _post(url, body)[1]["id"]
            assert _post(url, {**body, "previous_response_id": name})[0] == status


def test_calls_written_as_text_are_read(made: Generator) -> None:
    call = "[{'id': 'c1', 'type': 'function', 'function': {'name': 'f', 'arguments': {'a': 1}}}]"
    told = made.text_calls.with_calls(
        [
            {"role": "user", "content": "Observation:\nof nothing"},
            {"role": "assistant", "content": f"I use f.\nCalling tools:\n{call}"},
            {"role": "user", "content": "Observation:\n[1]"},
            {"role": "assistant", "content": f"Calling tools:\n{call}"},
            {"role": "user", "content": "Call id: c1\nError:\nit raised"},
        ]
    )
    roles = ["user", "assistant", "tool", "assistant", "tool"]
    assert [message["role"] for message in told] == roles
    assert told[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (told[2]["content"], told[4]["content"]) == ("[1]", "Error:\nit raised")


def test_responses_are_read_as_frameworks_wrap_them(made: Generator) -> None:
    hands = made.hands.JsonHands()
    assert hands.read(None, '{"result": "[{\\"a\\": 1}]"}').value == [{"a": 1}]
    assert hands.read(None, '{"result": "The call timed out after 30 s"}').fault == "timeout"
    terminal, action = made.hands.TerminalHands(), made.hands.action
    look = action("read_rows", {"table": "t", "first": 1, "last": 2})
    assert terminal.parse(*terminal.render(look)) == look
    about = "\n[Current working directory: /desk]\n[Command finished with exit code {}]"
    assert terminal.read(look, "a,1\nb,2" + about.format(0)).value == [["a", 1], ["b", 2]]
    assert terminal.read(look, "no such file" + about.format(1)).fault == "error"
    functions = [{"name": name} for name in ("terminal", "finish")]
    assert isinstance(made.hands.hands_for(functions), made.hands.TerminalHands)
    assert made.hands.hands_for([{"name": "final_answer"}]).submit("3")[0] == "final_answer"


def test_a_shell_agent_reads_its_own_commands(made: Generator) -> None:
    hands, action = made.hands.ShellHands(), made.hands.action
    for act in (
        action("describe_table", {"table": "sales_north"}),
        action("read_rows", {"table": "sales_north", "first": 5, "last": 8}),
        action("find_rows", {"table": "items", "column": "item", "value": "S-42"}),
        action("set_cell", {"table": "suppliers", "key": "S-42", "column": "grade", "value": "B"}),
    ):
        assert hands.parse(*hands.render(act)) == act
    assert hands.parse(*hands.submit("12")) is None


# ---------------------------------------------------------------- the logs against the truth


def _table(runs: loaders.Trajectories, name: str) -> pl.DataFrame:
    return getattr(runs, name).lazy().collect()


def _runs_by_key(study: loaders.Trajectories, truth: dict[str, Any]) -> list[tuple[Any, Any]]:
    """(row of the run, its truth) for every run of the study."""
    rows = {
        (row["arm"], row["task_id"], row["trial"]): row
        for row in _table(study, "trajectories").iter_rows(named=True)
    }
    told = truth["parts"]["study"]["runs"]
    assert len(rows) == len(told) == 240
    return [(rows[run["arm"], run["task_id"], str(run["trial"])], run) for run in told]


def test_every_run_of_the_study_is_read_as_it_was(
    study: loaders.Trajectories, truth: dict[str, Any]
) -> None:
    assert _table(study, "problems").is_empty()
    for row, run in _runs_by_key(study, truth):
        assert (row["outcome"], row["steps"]) == (run["outcome"], run["steps"]), run
        assert bool(row["success"]) is run["success"]


def test_thinking_sent_is_read_from_the_requests(
    study: loaders.Trajectories, truth: dict[str, Any]
) -> None:
    steps = _table(study, "steps").sort("run", "step")
    assert set(steps["evidence"]) == {"request"}
    by_run = {key[0]: frame for key, frame in steps.partition_by("run", as_dict=True).items()}
    for row, run in _runs_by_key(study, truth):
        frame = by_run[row["run"]]
        assert frame["thinking_sent"].to_list() == run["thinking_sent"]
        assert frame["thinking_available"].to_list() == run["thinking_available"]
        is_kept = run["arm"] == "kept"
        assert run["thinking_sent"][-1] == (run["thinking_available"][-1] if is_kept else 0)


LOOKS = {
    "returned_error": r"internal error 500",
    "raised_error": r"connection to the service was lost",
    "timeout": r"timed out",
    "empty": r"^(\[\]|\{\})$",
    "truncated": r"\[truncated\]$",
    "malformed": r"^[\[{].*[^\]}]$",
    "stale": r"served from cache",
}


def test_perturbed_responses_stand_where_the_truth_says(
    study: loaders.Trajectories, truth: dict[str, Any]
) -> None:
    events = _table(study, "events").filter(pl.col("kind") == "tool_result")
    results = {(row["run"], row["step"]): row for row in events.iter_rows(named=True)}
    hits = [(row, hit) for row, run in _runs_by_key(study, truth) for hit in run["perturbations"]]
    assert {hit["kind"] for _, hit in hits} == set(KINDS)
    for row, hit in hits:
        result = results[row["run"], hit["step"]]
        assert result["tool"] == hit["tool"]
        assert re.search(LOOKS[hit["kind"]], result["text"]), result["text"]
        assert bool(result["is_error"]) is (hit["kind"] == "raised_error")
    flagged = {key for key, result in results.items() if result["is_error"]}
    raised = {(r["run"], hit["step"]) for r, hit in hits if hit["kind"] == "raised_error"}
    assert flagged == raised


def test_the_logs_are_what_the_generator_makes(made: Generator, truth: dict[str, Any]) -> None:
    """The framework's run and the play in one process agree, and the parameters are those."""
    assert truth["parameters"] == json.loads(
        json.dumps({name: vars(params) for name, params in made.agent.MODELS.items()})
    )
    tasks = {task.id: task for task in made.world.all_tasks()}
    params = made.agent.MODELS["planner-1"]
    for run in truth["parts"]["study"]["runs"]:
        history = made.offline.ARMS[run["arm"]]
        episode = made.offline.play(tasks[run["task_id"]], run["trial"], history, params)
        assert (episode.outcome, episode.steps) == (run["outcome"], run["steps"]), run
        assert episode.hits == [(hit["step"], hit["kind"]) for hit in run["perturbations"]]
        assert episode.slips == [(slip["step"], slip["what"]) for slip in run["slips"]]


def test_the_planted_effects_are_there(truth: dict[str, Any]) -> None:
    effects = truth["planted"]
    assert effects["success"]["kept"] - effects["success"]["dropped"] > 0.2
    for arm, success in effects["success_with_one_perturbation"].items():
        assert success["stale"] == success["none"], arm
        assert all(success[kind] < success["none"] - 0.05 for kind in KINDS if kind != "stale")
    hazards = effects["hazard_of_failure_at_the_next_step"]
    for kind in ("returned_error", "raised_error", "timeout"):
        odds = {arm: hazards[arm][kind]["odds_ratio"] for arm in ("kept", "dropped")}
        assert 5 < odds["kept"] < odds["dropped"]
    assert all(0.5 < hazards[arm]["stale"]["odds_ratio"] < 2 for arm in hazards)
    failed = [run for run in truth["parts"]["study"]["runs"] if not run["success"]]
    assert len(failed) >= 60


def test_mini_swe_agent_sends_thinking_back_and_its_log_does_not_say(
    truth: dict[str, Any],
) -> None:
    part = truth["parts"]["mini_swe_agent"]["runs"]
    assert len(part) == 6
    for run in part:
        assert run["thinking_sent"] == run["thinking_available"]
        read = loaders.load(SAMPLES / run["log"])
        (row,) = _table(read, "trajectories").iter_rows(named=True)
        assert (row["format"], row["steps"]) == ("mini_swe_agent", run["steps"])
        assert row["end_reason"] == run["exit_status"]
        assert row["success"] is None
        assert _table(read, "problems").is_empty()
        steps = _table(read, "steps")
        assert set(steps["thinking"]) == {"text"}
        assert steps["thinking_sent"].is_null().all()


FORMATS = {
    "mini_swe_agent": "mini_swe_agent",
    "pydantic_ai": "pydantic_ai",
    "openai_agents": "openai_agents",
    "smolagents": "smolagents",
    "google_adk": "google_adk",
    "openhands": "openhands_v1",
}
SENDS_BACK = {
    "pydantic_ai": {"not_sent": False, "responses_unknown": False},
    "openai_agents": {"reasoning_content": False},
    "smolagents": {"reasoning_content": False, "reasoning": False},
    "google_adk": {},
    "openhands": {"openai": False, "deepseek": False},
    "otel": {},
}
"""Styles in which a framework does not send thinking back; in all others it does."""


@pytest.mark.parametrize("name", FORMATS)
def test_a_framework_s_logs_are_read_as_its_runs_were(name: str, truth: dict[str, Any]) -> None:
    for run in truth["parts"][name]["runs"]:
        read = loaders.load(SAMPLES / run["log"])
        assert _table(read, "problems").filter(pl.col("severity") == "error").is_empty()
        (row,) = _table(read, "trajectories").iter_rows(named=True)
        assert row["format"] == FORMATS[name], run["log"]
        if run.get("ended") != "ToolRaised":  # what the framework logs of its own end differs
            assert row["steps"] == run["steps"], run["log"]
        sent = _table(read, "steps").sort("step")["thinking_sent"]
        assert sent.is_null().all() or sent.to_list() == run["thinking_sent"], run["log"]


@pytest.mark.parametrize("name", SENDS_BACK)
def test_a_framework_sends_thinking_back_or_not(name: str, truth: dict[str, Any]) -> None:
    runs = truth["parts"][name]["runs"]
    assert {hit["kind"] for run in runs for hit in run["perturbations"]} >= {"raised_error"}
    for run in runs:
        is_sent = SENDS_BACK[name].get(run["style"], True)
        expected = run["thinking_available"] if is_sent else [0] * run["steps"]
        assert run["thinking_sent"] == expected, (run["style"], run["task_id"])


@pytest.mark.parametrize("name", ["mini_swe_agent", *SENDS_BACK])
def test_a_framework_s_archive_tells_what_was_sent(name: str, truth: dict[str, Any]) -> None:
    runs = {
        (run["style"], run["task_id"]): run
        for run in truth["parts"][name]["runs"]
        if run.get("wire", True)
    }
    read = loaders.load(SAMPLES / "frameworks" / name / "wire.har")
    assert _table(read, "problems").is_empty()
    rows = list(_table(read, "trajectories").iter_rows(named=True))
    assert len(rows) == len(runs)
    steps = _table(read, "steps").sort("run", "step")
    for row in rows:
        address = re.search(r"127\.0\.0\.1[^/]*/([^/]+)/([^/]+)/", str(row["metadata"]))
        assert address
        run = runs.pop((address[1], address[2]))
        frame = steps.filter(pl.col("run") == row["run"])
        assert frame["thinking_sent"].to_list() == run["thinking_sent"], address
        assert frame["thinking_available"].to_list() == run["thinking_available"], address


def test_the_sample_logs_are_small_and_name_no_machine() -> None:
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    private = re.compile(rb"/(?:home|root|Users|tmp|work|var|usr|opt)\b|\\Users\\")
    for path in files:
        if path.suffix == ".eval":
            archive = ZipArchive(path)
            texts = [archive.read(name) for name in archive.names]
        elif path.suffix == ".gz":
            texts = [gzip.decompress(path.read_bytes())]
        else:
            texts = [path.read_bytes()] if path.suffix in (".json", ".jsonl", ".har") else []
        for text in texts:
            assert not private.search(text), path
            assert b"Bearer" not in text, path
