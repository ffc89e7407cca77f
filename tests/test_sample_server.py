"""The sample logs' model server: three APIs, counts that add up, and what was sent back."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from generator import Generator, request_after, table_of

import loaders

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
        for arm in ("all", "none"):
            url = f"{server.base_url(arm, task.id, 1)}/chat/completions"
            usages, responses = [], []
            for replies in range(4):
                messages = request_after(made, task, replies, arm, faultless)
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
                said = before["completion_tokens"] - (reasoning if arm == "none" else 0)
                assert grown == said + made.counting.tokens_of(response)
            record = server.records[arm, task.id, "1"]
            assert record.thinking_available == [0, 1, 2, 3]
            assert record.thinking_sent == ([0, 1, 2, 3] if arm == "all" else [0, 0, 0, 0])


def test_the_server_says_what_it_can_not_do(made: Generator) -> None:
    with made.server.serving() as server:
        good = f"{server.base_url('all', 'task', 1)}/chat/completions"
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
    assert table_of(read, "problems").is_empty()
    rows = list(table_of(read, "trajectories").iter_rows(named=True))
    assert {row["format"] for row in rows} == {"har"}
    assert len(rows) == len(records)
    steps = table_of(read, "steps").sort("run", "step")
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
