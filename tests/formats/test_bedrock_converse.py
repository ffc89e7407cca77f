"""Bedrock's Converse API, against figures counted from the raw cassettes, and on logs written here."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tapes
import yaml
from tapes import events, every_event_leads_to_its_record, kinds, lines, problems, steps

import loaders
from loaders import Trajectories
from loaders.formats import anthropic_messages, bedrock_converse
from loaders.framing import event_stream_of
from loaders.sources import Source

Object = dict[str, Any]
HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"
URL = f"{HOST}/model/us.maker.m-v1%3A0/converse"
TOOLS = {
    "tools": [
        {"toolSpec": {"name": "ls", "description": "List.", "inputSchema": {"json": {"type": "object"}}}},
        {"cachePoint": {"type": "default"}},
    ],
    "toolChoice": {"auto": {}},
}  # fmt: skip
USAGE = {
    "inputTokens": 5,
    "outputTokens": 7,
    "totalTokens": 42,
    "cacheReadInputTokens": 20,
    "cacheWriteInputTokens": 10,
}


def user(*blocks: Any) -> Object:
    return {"role": "user", "content": [{"text": b} if isinstance(b, str) else b for b in blocks]}


def reply(*blocks: Object) -> Object:
    return {"role": "assistant", "content": list(blocks)}


def thought(text: str | None, signature: str | None = None) -> Object:
    shown = {"text": text, "signature": signature}
    return {"reasoningContent": {"reasoningText": {k: v for k, v in shown.items() if v}}}


def use(number: int) -> Object:
    return {"toolUse": {"toolUseId": f"t{number}", "name": "ls", "input": {"n": number}}}


def result(number: int, *content: Object, **more: Any) -> Object:
    return {"toolResult": {"toolUseId": f"t{number}", "content": list(content), **more}}


def request(*messages: Object, **more: Any) -> Object:
    settings = {"system": [{"text": "Be brief."}], "inferenceConfig": {"temperature": 0.5}}
    return {"messages": list(messages), **settings, "toolConfig": TOOLS, **more}


def answer(message: Object, stop: str = "end_turn", **more: Any) -> Object:
    return {"output": {"message": message}, "stopReason": stop, "usage": USAGE, **more}


def tape(path: Path, *calls: tuple[Object, Any], url: str = URL, code: int = 200) -> Trajectories:
    """A cassette of calls of this API."""
    return tapes.tape(path, *calls, url=url, code=code)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tape.yaml"


# ---------------------------------------------------------------------- real cassettes


def bodies(path: Path) -> list[tuple[Object, Object]]:
    """Requests and responses of a real cassette, by code of its own."""
    found = yaml.safe_load(path.read_text())["interactions"]
    return [(json.loads(x["request"]["body"]), x["response"]["parsed_body"]) for x in found]


def blocks_in(message: Object, key: str) -> list[Any]:
    return [block[key] for block in message["content"] if key in block]


@pytest.mark.parametrize(
    "name",
    ["test_bedrock_anthropic_tool_with_thinking", "test_bedrock_model_thinking_part_deepseek"],
)
def test_cassettes(real_logs: Path, name: str) -> None:
    path = real_logs / "bedrock_converse" / f"{name}.yaml"
    calls = bodies(path)
    runs = loaders.load(path)
    replies = [given["output"]["message"] for _, given in calls]
    last = calls[-1][0]["messages"]
    asked = [b for m in last if m["role"] == "user" for b in m["content"]]

    run = runs.trajectories.collect().row(0, named=True)
    assert runs.trajectories.collect().height == 1
    assert (run["format"], run["provider"], run["steps"]) == ("bedrock_converse", "bedrock", 2)
    raw_model = yaml.safe_load(path.read_text())["interactions"][0]["request"]["uri"].split("/")[4]
    assert run["model"] == raw_model.replace("%3A", ":")

    shown = [r["reasoningText"] for m in replies for r in blocks_in(m, "reasoningContent")]
    thinking = runs.events.filter(pl.col("kind") == "thinking").collect()
    assert thinking["text"].to_list() == [one["text"] for one in shown]
    assert thinking["signature"].to_list() == [one.get("signature") for one in shown]
    assert set(thinking["thinking_state"]) == {"text"}
    counts = {kind: kinds(runs).count(kind) for kind in ("user", "message", "tool_call")}
    assert counts == {
        "user": sum("text" in block for block in asked),
        "message": sum(len(blocks_in(message, "text")) for message in replies),
        "tool_call": sum(len(blocks_in(message, "toolUse")) for message in replies),
    }
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    raw_results = [block["toolResult"] for block in asked if "toolResult" in block]
    assert results["call_id"].to_list() == [one["toolUseId"] for one in raw_results]
    assert results["is_error"].to_list() == [one["status"] != "success" for one in raw_results]
    assert results["call_seq"].null_count() == 0

    usage = [given["usage"] for _, given in calls]
    assert steps(runs, "input_tokens", "output_tokens", "reasoning_tokens", "stop_reason") == [
        (used["inputTokens"], used["outputTokens"], None, given["stopReason"])
        for used, (_, given) in zip(usage, calls, strict=True)
    ]
    assert steps(runs, "cached_tokens") == [(used.get("cacheReadInputTokens"),) for used in usage]
    words = [json.dumps(asked) for asked, _ in calls]
    sent = json.dumps(shown[0]["text"])[1:-1] in words[1]
    assert steps(runs, "thinking_available", "thinking_sent", "evidence", "history_edit") == [
        (0, 0, "wire", "none"),
        (1, int(sent), "wire", "none"),
    ]
    offered = calls[0][0].get("toolConfig", {"tools": []})["tools"]
    assert runs.tools.collect()["name"].to_list() == [t["toolSpec"]["name"] for t in offered]
    assert problems(runs) == []
    assert every_event_leads_to_its_record(runs)


def test_thinking_sent_back_as_words_counts_as_sent(real_logs: Path) -> None:
    """One client writes thinking into think tags: no block of it is in the request, but its text is."""
    path = real_logs / "bedrock_converse" / "test_bedrock_model_thinking_part_deepseek.yaml"
    (_, first), (second, _) = bodies(path)
    sent = [block for message in second["messages"] for block in message["content"]]
    assert not any("reasoningContent" in block for block in sent)
    (words,) = [r["reasoningText"]["text"] for r in blocks_in(first["output"]["message"], "reasoningContent")]  # fmt: skip
    assert any("<think>" in block["text"] and words in block["text"] for block in sent)
    assert steps(loaders.load(path), "thinking_sent")[1] == (1,)


# ---------------------------------------------------------------------- blocks and calls


def test_a_conversation_with_thinking_sent_back_and_dropped(path: Path) -> None:
    first = reply(thought("plan", "sig="), {"text": "I look."}, use(1))
    second = reply({"reasoningContent": {"redactedContent": "c2VjcmV0"}}, use(2))
    asked = [user("go")]
    calls = [(request(*asked), answer(first, "tool_use"))]
    asked += [first, user(result(1, {"json": {"b": 1}}, {"text": "a"}, status="error"))]
    calls += [(request(*asked), answer(second, "tool_use"))]
    asked = [user("go"), reply(*first["content"][1:]), asked[2], second]
    asked += [user(result(2, {"image": {"format": "png", "source": {}}}, status="success"))]
    calls += [(request(*asked), answer(reply({"text": "done"})))]
    runs = tape(path, *calls)
    assert events(runs, "kind", "text", "thinking_state", "signature", "is_error", "media") == [
        ("system", "Be brief.", None, None, None, None),
        ("user", "go", None, None, None, None),
        ("thinking", "plan", "text", "sig=", None, None),
        ("message", "I look.", None, None, None, None),
        ("tool_call", None, None, None, None, None),
        ("tool_result", '{"b":1}\na', None, None, True, None),
        ("thinking", None, "redacted", "c2VjcmV0", None, None),
        ("tool_call", None, None, None, None, None),
        ("tool_result", None, None, None, False, ["image/png"]),
        ("message", "done", None, None, None, None),
    ]
    columns = ("thinking_available", "thinking_sent", "history_edit", "thinking", "input_tokens")
    assert steps(runs, *columns) == [
        (0, 0, "none", "text", 35),
        (1, 1, "none", "redacted", 35),
        (2, 1, "thinking_dropped", "absent", 35),
    ]
    run = runs.trajectories.collect().row(0, named=True)
    assert json.loads(run["params"]) == {"inferenceConfig": {"temperature": 0.5}, "toolChoice": {"auto": {}}}  # fmt: skip
    assert (run["cached_tokens"], run["orphan_results"], run["model"]) == (60, 0, "us.maker.m-v1:0")
    assert runs.tools.collect()["description"].to_list() == ["List."]
    assert problems(runs) == []


def test_blocks_of_every_kind(path: Path) -> None:
    document = {"format": "txt", "name": "n", "source": {"text": "its words"}}
    hit = {"searchResult": {"title": "T", "source": "s", "content": [{"text": "body"}]}}
    asked = [
        user(
            "look",
            {"image": {"format": "jpeg", "source": {"bytes": ""}}},
            {"document": document},
            {"guardContent": {"text": {"text": "checked"}}},
            {"cachePoint": {"type": "default"}},
            {"somethingNew": {"a": 1}},
        ),
        reply(use(0)),
        user(result(0, hit)),
    ]
    cited = {"citationsContent": {"content": [{"text": "as "}, {"text": "it says"}]}}
    given = reply({"text": "<thinking>hm</thinking>So"}, cited)
    runs = tape(path, (request(*asked), answer(given)))
    assert events(runs, "kind", "text", "media")[1:] == [
        ("user", "look", None),
        ("user", None, ["image/jpeg"]),
        ("user", "its words", ["document/txt"]),
        ("user", "checked", None),
        ("other", '{"somethingNew":{"a":1}}', None),
        ("tool_call", None, None),
        ("tool_result", "T\ns\nbody", None),
        ("thinking", "hm", None),
        ("message", "So", None),
        ("message", "as it says", None),
    ]
    assert steps(runs, "thinking")[-1] == ("tagged_in_text",)


def test_an_error_is_told_in_the_words_of_the_service(path: Path) -> None:
    body = {"message": "The model is not ready."}
    runs = tape(path, (request(user("go")), body), code=429)
    assert events(runs, "kind", "text", "error_type")[-1] == (
        "error",
        "The model is not ready.",
        "HTTP 429",
    )


# ---------------------------------------------------------------------- streams


def frame(kind: str, payload: Any, message_type: str = "event") -> bytes:
    """A message of a binary event stream, built by hand."""
    name = ":event-type" if message_type == "event" else ":exception-type"
    headers = b""
    for key, value in ((name, kind), (":message-type", message_type)):
        headers += bytes([len(key)]) + key.encode() + b"\x07"
        headers += struct.pack(">H", len(value)) + value.encode()
    headers += b"\x04when" + b"\x08" + struct.pack(">q", 1) + b"\x02ok" + b"\x00"
    data = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + data
    return body + struct.pack(">I", zlib.crc32(body))


def deltas() -> list[tuple[str, Object]]:
    def delta(index: int, **piece: Any) -> tuple[str, Object]:
        return ("contentBlockDelta", {"contentBlockIndex": index, "delta": piece, "p": "abc"})

    begun = {"toolUse": {"toolUseId": "t1", "name": "ls"}}
    return [
        ("messageStart", {"role": "assistant"}),
        delta(0, reasoningContent={"text": "A pl"}),
        delta(0, reasoningContent={"text": "an, then."}),
        delta(0, reasoningContent={"signature": "sig="}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        delta(1, reasoningContent={"redactedContent": "c2Vj"}),
        delta(2, text="I "),
        delta(2, text="look."),
        ("contentBlockStart", {"contentBlockIndex": 3, "start": begun}),
        delta(3, toolUse={"input": '{"n"'}),
        delta(3, toolUse={"input": ":1}"}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 3}}),
    ]


STREAMED = [
    ("thinking", "A plan, then.", "sig=", None),
    ("thinking", None, "c2Vj", None),
    ("message", "I look.", None, None),
    ("tool_call", None, None, '{"n":1}'),
]


@pytest.mark.parametrize("packing", ["bytes", "base64", "gzip", "text", "list"])
def test_streams_however_they_are_recorded(path: Path, packing: str) -> None:
    binary = b"".join(frame(*event) for event in deltas())
    named = [{kind: body} for kind, body in deltas()]
    body: Any = {
        "bytes": binary,
        "base64": base64.b64encode(binary).decode(),
        "gzip": gzip.compress(binary),
        "text": "".join(f"data: {json.dumps(event)}\n\n" for event in named),
        "list": json.dumps(named),
    }[packing]
    runs = tape(path, (request(user("go")), body), url=f"{URL}-stream")
    assert events(runs, "kind", "text", "signature", "arguments")[2:] == STREAMED
    columns = ("stop_reason", "input_tokens", "output_tokens", "thinking")
    assert steps(runs, *columns) == [("tool_use", 35, 7, "text")]
    assert problems(runs) == []
    assert every_event_leads_to_its_record(runs)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.98])
def test_a_stream_cut_short_gives_what_stands_before(path: Path, kept: float) -> None:
    binary = b"".join(frame(*event) for event in deltas())
    runs = tape(path, (request(user("go")), binary[: int(len(binary) * kept)]))
    assert kinds(runs)[2] == "thinking"
    (reason,) = problems(runs)
    assert "events of the stream that can't be read: 1" in reason
    assert ("the stream ends before the reply does" in reason) == (kept < 0.9)


def test_an_exception_inside_a_stream_is_an_error(path: Path) -> None:
    events_before = b"".join(frame(*event) for event in deltas()[:4])
    failed = frame("throttlingException", {"message": "Too many tokens."}, "exception")
    runs = tape(path, (request(user("go")), events_before + failed))
    assert events(runs, "kind", "text", "error_type")[-2:] == [
        ("thinking", "A plan, then.", None),
        ("error", "Too many tokens.", "throttlingException"),
    ]
    assert steps(runs, "error") == [("Too many tokens.",)]


def test_chunks_of_a_raw_invocation_hold_the_events_of_another_api(tmp_path: Path) -> None:
    """Anthropic's own events come in such frames too; the cassette is one of Anthropic's dialect."""
    inner = [
        {"type": "message_start", "message": {"model": "claude-x", "role": "assistant"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "a plan"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]  # fmt: skip
    packed = [base64.b64encode(json.dumps(event).encode()).decode() for event in inner]
    body = b"".join(frame("chunk", {"bytes": one}) for one in packed)
    asked = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9}
    asked["messages"] = [{"role": "user", "content": "hi"}]
    url = f"{HOST}/model/anthropic.claude-x/invoke-with-response-stream"
    runs = tape(tmp_path / "t.yaml", (asked, body), url=url)
    assert runs.trajectories.collect()["format"].to_list() == ["anthropic_messages"]
    assert events(runs, "kind", "text") == [("user", "hi"), ("thinking", "a plan")]
    assert problems(runs) == []


@pytest.mark.parametrize(
    "junk", [b"", b"\0" * 40, b"\0\0\0\x20" + b"\xff" * 28, b"\0\0\0\x11\0\0\0\x01"]
)
def test_broken_frames_end_the_stream(junk: bytes) -> None:
    whole = frame("messageStart", {"role": "assistant"})
    text = event_stream_of(whole + junk)
    assert text.startswith('data: {"messageStart": {"role": "assistant"}}\n\n')
    assert ("(cut short)" in text) == bool(junk)


# ---------------------------------------------------------------------- other layouts


def test_the_invocation_log_and_batches(tmp_path: Path) -> None:
    asked, given = request(user("go")), answer(reply(thought("plan"), {"text": "done"}))
    logged = {
        "schemaType": "ModelInvocationLog",
        "timestamp": "2026-01-31T10:00:00Z",
        "region": "eu-west-1",
        "operation": "Converse",
        "modelId": "maker.m-v1:0",
        "input": {"inputContentType": "application/json", "inputBodyJson": asked},
        "output": {"outputContentType": "application/json", "outputBodyJson": given},
    }
    batch = {"recordId": "r1", "modelInput": {**asked, "modelId": "m2"}, "modelOutput": given}
    dumped = {"request": {**asked, "modelId": "m3"}, "response": given}
    flat = {"modelId": "m4", **asked, "response": given}
    records = [logged, batch, dumped, flat]
    for number, record in enumerate(records):
        second = {**asked, "messages": [user("go on")]}
        other = json.loads(json.dumps(record).replace(json.dumps(asked["messages"]), json.dumps(second["messages"])))  # fmt: skip
        for name, content in (("one.json", [record]), ("two.jsonl", [record, other])):
            runs = lines(tmp_path / f"{number}-{name}", *content)
            assert set(runs.trajectories.collect()["format"]) == {"bedrock_converse"}, number
            assert kinds(runs)[:4] == ["system", "user", "thinking", "message"], number
            assert len(kinds(runs)) == 4 * len(content)
            assert every_event_leads_to_its_record(runs)
        model = {0: "maker.m-v1:0", 1: "m2", 2: "m3", 3: "m4"}[number]
        assert steps(runs, "model", "evidence")[0] == (model, "wire")
    runs = loaders.load(tmp_path / "0-one.json")
    assert steps(runs, "started_at")[0][0].year == 2026
    assert json.loads(runs.trajectories.collect()["metadata"].item())["region"] == "eu-west-1"


def test_an_archive_of_such_calls(tmp_path: Path) -> None:
    binary = base64.b64encode(b"".join(frame(*event) for event in deltas())).decode()
    entry = {
        "startedDateTime": "2026-01-31T10:00:00Z",
        "time": 1000,
        "request": {"url": URL, "postData": {"text": json.dumps(request(user("go")))}},
        "response": {"status": 200, "content": {"text": binary, "encoding": "base64"}},
    }
    path = tmp_path / "a.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": [entry]}}))
    runs = loaders.load(path)
    assert events(runs, "kind", "text", "signature", "arguments")[2:] == STREAMED
    assert steps(runs, "model") == [("us.maker.m-v1:0",)]


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]], {"text": 5}, True, [None]])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    blocks = [thought("a", "s"), use(1), result(1, {"text": "b"}), {"text": "c"}]
    keys = (
        "text",
        "toolUse",
        "toolResult",
        "reasoningContent",
        "image",
        "document",
        "guardContent",
    )
    wrong: list[Any] = [{key: junk} for key in (*keys, "citationsContent", "cachePoint")]
    wrong += [
        {"reasoningContent": {"reasoningText": junk}},
        {"toolUse": {"input": junk, "name": junk}},
    ]
    wrong += [{"toolResult": {"content": junk, "status": junk, "toolUseId": junk}}, junk]
    records: list[Any] = [{"request": request(user("hi")), "response": answer(reply(*blocks))}]
    whole = answer(reply(*blocks, *wrong))
    records += [
        {"request": request(user(*wrong), reply(*wrong), {"role": junk, "content": junk})},
        {"request": request(user("more")), "response": whole},
        {"request": request(user("more"), system=junk, toolConfig=junk), "response": answer(junk)},
        {"request": request(user("x")), "response": {**whole, "usage": junk, "output": junk}},
        {"request": request(user("y")), "response": [*({k: junk} for k, _ in deltas()), junk]},
        {"request": {"messages": junk, "inferenceConfig": {}}, "response": whole},
    ]
    runs = lines(tmp_path / "calls.jsonl", *records)
    assert "hi" in [text for (text,) in events(runs, "text")]
    assert not [reason for reason in problems(runs) if "Error" in reason]


def test_only_this_format_says_yes(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    lines(
        path, {"request": {"modelId": "m", "messages": [user("go")]}, "response": answer(reply())}
    )
    head = Source(path).head
    assert bedrock_converse.sniff(head)
    assert not anthropic_messages.sniff(head)
