"""The Gemini API, against figures counted from the raw cassettes, and on logs written here."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tapes
import yaml
from tapes import events, every_event_leads_to_its_record, kinds, lines, problems, steps

import loaders
from loaders import Trajectories
from loaders.formats import gemini_api, openai_chat, openai_responses
from loaders.sources import Source

Object = dict[str, Any]
HOST = "https://generativelanguage.googleapis.com/v1beta/models"
URL = f"{HOST}/gemini-x:generateContent"
USAGE = {
    "promptTokenCount": 40,
    "toolUsePromptTokenCount": 2,
    "cachedContentTokenCount": 30,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 11,
    "totalTokenCount": 58,
}
SIGNATURE = base64.b64encode(bytes(range(200, 256)) * 2).decode()
SENT_BACK = SIGNATURE.replace("+", "-").replace("/", "_")
STAND_IN = base64.b64encode(b"skip_thought_signature_validator").decode()


def user(*parts: Any) -> Object:
    return {"role": "user", "parts": [{"text": p} if isinstance(p, str) else p for p in parts]}


def model(*parts: Object) -> Object:
    return {"role": "model", "parts": list(parts)}


def thought(text: str, **more: Any) -> Object:
    return {"text": text, "thought": True, **more}


def call(number: int, **more: Any) -> Object:
    return {"functionCall": {"name": "ls", "args": {"n": number}}, **more}


def output(number: int, response: Object, **more: Any) -> Object:
    return {
        "functionResponse": {"name": "ls", "id": f"made-up-{number}", "response": response, **more}
    }


def request(*contents: Object, **more: Any) -> Object:
    declared = [{"name": "ls", "description": "List.", "parameters": {"type": "OBJECT"}}]
    return {
        "contents": list(contents),
        "systemInstruction": {"parts": [{"text": "Be"}, {"text": "brief."}]},
        "generationConfig": {"temperature": 0.5},
        "tools": [{"functionDeclarations": declared}, {"googleSearch": {}}],
        **more,
    }


def answer(content: Object | None, end: str = "STOP", **more: Any) -> Object:
    candidate: Object = {"finishReason": end, "index": 0, **more}
    if content is not None:
        candidate["content"] = content
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-x-1"}


def tape(path: Path, *calls: tuple[Object, Any], url: str = URL, code: int = 200) -> Trajectories:
    """A cassette of calls of this API."""
    return tapes.tape(path, *calls, url=url, code=code)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tape.yaml"


# ---------------------------------------------------------------------- real cassettes


def bodies(path: Path) -> list[tuple[Object, Object]]:
    """Requests and responses of the Gemini API on a real cassette, by code of its own."""
    found = yaml.safe_load(path.read_text())["interactions"]
    pairs = [(one["request"], one["response"]) for one in found]
    return [
        (asked["parsed_body"], given["parsed_body"])
        for asked, given in pairs
        if "googleapis" in asked["uri"]
    ]


def test_a_cassette_with_thoughts(real_logs: Path) -> None:
    path = real_logs / "gemini_api" / "test_google_model_thinking_part.yaml"
    calls = bodies(path)
    runs = loaders.load(path)
    run = runs.trajectories.collect().row(0, named=True)
    assert runs.trajectories.collect().height == 1
    assert (run["format"], run["provider"], run["steps"]) == ("gemini_api", "google", len(calls))
    assert run["model"] == calls[0][1]["modelVersion"]

    replies = [given["candidates"][0]["content"]["parts"] for _, given in calls]
    thoughts = [part["text"] for parts in replies for part in parts if part.get("thought")]
    signatures = [
        p["thoughtSignature"] for parts in replies for p in parts if "thoughtSignature" in p
    ]
    said = [part["text"] for parts in replies for part in parts if not part.get("thought")]
    thinking = runs.events.filter(pl.col("kind") == "thinking").collect()
    assert thinking["text"].to_list() == thoughts
    assert thinking["signature"].to_list() == signatures
    assert set(thinking["thinking_state"]) == {"summary"}
    assert runs.events.filter(pl.col("kind") == "message").collect()["text"].to_list() == said
    asked = [c for c in calls[-1][0]["contents"] if c["role"] == "user"]
    assert kinds(runs).count("user") == sum(len(content["parts"]) for content in asked)

    usage = [given["usageMetadata"] for _, given in calls]
    assert [used["totalTokenCount"] for used in usage] == [
        into + out for into, out in steps(runs, "input_tokens", "output_tokens")
    ]
    assert steps(runs, "reasoning_tokens") == [(used["thoughtsTokenCount"],) for used in usage]
    assert steps(runs, "stop_reason") == [("STOP",)] * len(calls)
    columns = ("thinking_available", "thinking_sent", "evidence")
    assert steps(runs, *columns) == [(n, n, "wire") for n in range(len(calls))]
    assert runs.tools.collect()["name"].to_list() == ["dummy"]
    assert problems(runs) == []
    assert every_event_leads_to_its_record(runs)


def test_signatures_are_sent_back_in_the_other_alphabet(real_logs: Path) -> None:
    (_, first), (second, _) = bodies(
        real_logs / "gemini_api" / "test_google_model_thinking_part.yaml"
    )
    (given,) = re.findall(r"'thoughtSignature': '([^']+)'", str(first))
    (sent,) = re.findall(r"'thoughtSignature': '([^']+)'", str(second))
    assert given != sent
    assert base64.b64decode(given) == base64.urlsafe_b64decode(sent)


def test_a_cassette_that_goes_on_from_another_model(real_logs: Path) -> None:
    """The calls of the other API are a run of its own; a stand-in for a signature is no thinking."""
    path = real_logs / "gemini_api" / "test_thinking_with_tool_calls_from_other_model.yaml"
    ((asked, given),) = bodies(path)
    runs = loaders.load(path)
    rows = runs.trajectories.collect()
    assert rows["provider"].to_list() == ["openai", "google"]
    assert rows["format"].to_list() == ["gemini_api"] * 2
    assert runs.problems.collect().height == 0
    own = runs.events.filter(pl.col("run") == 1).collect()
    assert own["kind"].to_list() == ["user", "tool_call", "tool_result", "thinking", "tool_call"]
    signed = given["candidates"][0]["content"]["parts"][0]
    assert own.filter(pl.col("kind") == "thinking").select(
        "text", "thinking_state", "signature"
    ).row(0) == (None, "hidden", signed["thoughtSignature"])
    sent = asked["contents"][1]["parts"][0]
    assert base64.b64decode(sent["thoughtSignature"]) == b"context_engineering_is_the_way_to_go"
    results = own.filter(pl.col("kind") == "tool_result")
    assert results["text"].to_list() == [asked["contents"][2]["parts"][0]["functionResponse"]["response"]["return_value"]]  # fmt: skip
    assert results["call_seq"].to_list() == [1]
    last = runs.steps.filter(pl.col("run") == 1).collect().tail(1).row(0, named=True)
    usage = given["usageMetadata"]
    assert last["output_tokens"] == usage["totalTokenCount"] - usage["promptTokenCount"]
    assert last["reasoning_tokens"] == usage["thoughtsTokenCount"]
    assert (last["thinking"], last["thinking_available"], last["evidence"]) == ("hidden", 0, "wire")


# ---------------------------------------------------------------------- signatures


def test_a_signature_alone_is_thinking_that_is_sent_back_or_dropped(path: Path) -> None:
    first = model(call(1, thoughtSignature=SIGNATURE), call(2))
    back = model(call(1, thoughtSignature=SENT_BACK), call(2))
    bare = model(call(1), call(2))
    results = user(output(1, {"result": "a"}), output(2, {"error": "no such folder"}))
    calls = [(request(user("go")), answer(first))]
    calls += [(request(user("go"), back, results), answer(model({"text": "one"})))]
    calls += [(request(user("go"), bare, results), answer(model({"text": "two"})))]
    replaced = model(call(1, thoughtSignature=STAND_IN), call(2))
    calls += [(request(user("go"), replaced, results), answer(model({"text": "three"})))]
    runs = tape(path, *calls)
    assert events(runs, "kind", "text", "thinking_state", "signature", "is_error", "call_seq")[:7] == [
        ("system", "Be\nbrief.", None, None, None, None),
        ("user", "go", None, None, None, None),
        ("thinking", None, "hidden", SIGNATURE, None, None),
        ("tool_call", None, None, None, None, None),
        ("tool_call", None, None, None, None, None),
        ("tool_result", "a", None, None, None, 3),
        ("tool_result", "no such folder", None, None, True, 4),
    ]  # fmt: skip
    rows = steps(runs, "thinking_available", "thinking_sent", "evidence")
    assert rows == [(0, 0, "wire"), (1, 1, "wire"), (1, 0, "wire"), (1, 0, "wire")]
    assert steps(runs, "history_edit")[1:3] == [("none",), ("truncated",)]
    assert problems(runs) == []


@pytest.mark.parametrize(
    ("shown", "sent"),
    [
        ([thought("A"), thought("B"), call(1, thoughtSignature=SIGNATURE)], 2),
        ([call(1, thoughtSignature=SENT_BACK)], 2),
        ([call(1, thoughtSignature=SENT_BACK + "==")], 2),
        ([thought("A"), thought("B"), call(1)], 2),
        ([thought("A"), call(1)], 1),
        ([call(1)], 0),
        ([call(1, thoughtSignature="other")], 0),
    ],
    ids=["both", "signature", "padded", "summaries", "one summary", "neither", "another"],
)
def test_summaries_and_their_signature(path: Path, shown: list[Object], sent: int) -> None:
    """A signature belongs to all the thoughts before it, so it alone sends them all back."""
    given = model(thought("A"), thought("B"), call(1, thoughtSignature=SIGNATURE))
    second = request(user("go"), model(*shown), user(output(1, {"output": "a"})))
    runs = tape(
        path, (request(user("go")), answer(given)), (second, answer(model({"text": "done"})))
    )
    thinking = runs.events.filter(pl.col("kind") == "thinking").collect()
    assert thinking["text"].to_list() == ["A", "B"]
    assert thinking["signature"].to_list() == [SIGNATURE] * 2
    assert steps(runs, "thinking_available", "thinking_sent")[1] == (2, sent)
    assert kinds(runs)[2:] == ["thinking", "thinking", "tool_call", "tool_result", "message"]


def test_each_signature_without_a_thought_is_a_block_of_its_own(path: Path) -> None:
    parts = [
        thought("A", thoughtSignature="s1"),
        {"text": "x", "thoughtSignature": "s2"},
        thought("B"),
        {"text": "", "thought": True, "thoughtSignature": "s3"},
        {"text": "y"},
        {"text": "", "thoughtSignature": "s4"},
    ]
    runs = tape(path, (request(user("go")), answer(model(*parts))))
    assert events(runs, "kind", "text", "thinking_state", "signature")[2:] == [
        ("thinking", "A", "summary", "s1"),
        ("thinking", None, "hidden", "s2"),
        ("message", "x", None, None),
        ("thinking", "B", "summary", "s3"),
        ("message", "y", None, None),
        ("thinking", None, "hidden", "s4"),
    ]


# ---------------------------------------------------------------------- tokens, ends, parts


def test_tokens_of_thoughts_are_output_and_cached_ones_input(path: Path) -> None:
    runs = tape(path, (request(user("go")), answer(model({"text": "a"}))))
    columns = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "thinking")
    assert steps(runs, *columns) == [(42, 16, 11, 30, "not_logged")]
    assert USAGE["totalTokenCount"] == 42 + 16
    offered = runs.tools.select("name", "description").collect().sort("name").rows()
    assert offered == [("googleSearch", None), ("ls", "List.")]
    run = runs.trajectories.collect().row(0, named=True)
    assert json.loads(run["params"]) == {"generationConfig": {"temperature": 0.5}}


def test_replies_that_were_refused_or_broke_off(path: Path) -> None:
    words = "Malformed function call: ls("
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USAGE}
    calls = [
        (request(user("a")), answer(None, "MALFORMED_FUNCTION_CALL", finishMessage=words)),
        (request(user("b")), blocked),
        (request(user("c")), answer(model({"text": "ok"}), finishMessage="Done.")),
    ]
    runs = tape(path, *calls)
    assert steps(runs, "stop_reason", "error", "input_tokens") == [
        ("MALFORMED_FUNCTION_CALL", words, 42),
        ("SAFETY", None, 42),
        ("STOP", None, 42),
    ]
    assert problems(runs) == []


def test_errors_are_told_in_the_words_of_the_service(path: Path) -> None:
    error = {"code": 400, "message": "A signature is missing.", "status": "INVALID_ARGUMENT"}
    for body in ({"error": error}, json.dumps([{"error": error}])):
        runs = tape(path, (request(user("go")), body), code=400)
        assert events(runs, "kind", "text", "error_type")[-1] == (
            "error",
            "A signature is missing.",
            "INVALID_ARGUMENT",
        )


def test_parts_of_every_kind(path: Path) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": ""}}
    answered = output(1, {"a": 1}, parts=[image])
    code = {"executableCode": {"language": "PYTHON", "code": "1/0"}}
    ran = {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "boom"}}
    remote = {"toolCall": {"id": "t", "toolType": "URL_CONTEXT", "args": {"u": 1}}}
    found = {"toolResponse": {"id": "t", "toolType": "URL_CONTEXT", "response": {"result": "page"}}}
    file = {"fileData": {"mimeType": "application/pdf", "fileUri": "f"}}
    contents = [user("look", image, file), model(call(1)), user(answered, {"new": 1}, {})]
    replied = answer(model(code, ran, remote, found, {"text": "so"}))
    web = {"web": {"title": "T", "uri": "https://s.example"}}
    replied["candidates"][0]["groundingMetadata"] = {
        "webSearchQueries": ["q"],
        "groundingChunks": [web],
    }
    runs = tape(path, (request(*contents), replied))
    assert events(runs, "kind", "text", "tool", "is_error", "media")[1:] == [
        ("user", "look", None, None, None),
        ("user", None, None, None, ["image/png"]),
        ("user", None, None, None, ["application/pdf"]),
        ("tool_call", None, "ls", None, None),
        ("tool_result", '{"a":1}', "ls", None, ["image/png"]),
        ("other", '{"new":1}', None, None, None),
        ("tool_call", None, "google_search", None, None),
        ("tool_result", "T\nhttps://s.example", "google_search", None, None),
        ("tool_call", None, "code_execution", None, None),
        ("tool_result", "boom", "code_execution", True, None),
        ("tool_call", None, "URL_CONTEXT", None, None),
        ("tool_result", "page", "URL_CONTEXT", None, None),
        ("message", "so", None, None, None),
    ]
    assert runs.trajectories.collect()["orphan_results"].item() == 0
    assert every_event_leads_to_its_record(runs)


# ---------------------------------------------------------------------- streams


def chunks() -> list[Object]:
    def chunk(*parts: Object, **more: Any) -> Object:
        candidate = {"index": 0, "content": model(*parts), **more}
        return {"candidates": [candidate], "modelVersion": "gemini-x-1"}

    return [
        {**chunk(thought("A pl")), "usageMetadata": {"promptTokenCount": 40}},
        chunk(thought("an, then.")),
        chunk({"text": "I "}),
        chunk({"text": "look."}),
        chunk(call(1, thoughtSignature=SIGNATURE)),
        {**chunk({"text": ""}, finishReason="STOP"), "usageMetadata": USAGE},
    ]


STREAMED = [
    ("thinking", "A plan, then.", SIGNATURE, None),
    ("message", "I look.", None, None),
    ("tool_call", None, None, '{"n":1}'),
]


@pytest.mark.parametrize("layout", ["events", "list"])
def test_streams(path: Path, layout: str) -> None:
    body = "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks())
    if layout == "list":
        body = json.dumps(chunks(), indent=1)
    url = f"{HOST}/gemini-x:streamGenerateContent"
    runs = tape(path, (request(user("go")), body), url=url)
    assert events(runs, "kind", "text", "signature", "arguments")[2:] == STREAMED
    columns = ("stop_reason", "input_tokens", "output_tokens", "model", "thinking")
    assert steps(runs, *columns) == [("STOP", 42, 16, "gemini-x-1", "summary")]
    assert problems(runs) == []
    assert every_event_leads_to_its_record(runs)


def test_a_stream_cut_short_gives_what_stands_before(path: Path) -> None:
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks()[:3]) + 'data: {"cand'
    runs = tape(path, (request(user("go")), body))
    assert events(runs, "kind", "text")[2:] == [("thinking", "A plan, then."), ("message", "I ")]
    (reason,) = problems(runs)
    assert reason.startswith("the stream ends before the reply does; events of the stream")


# ---------------------------------------------------------------------- other layouts


def snake(value: Any) -> Any:
    """The same value with the keys of a client library, which writes nulls too."""
    if isinstance(value, dict):
        names = {key: re.sub("([A-Z])", r"_\1", key).lower() for key in value}
        data = ("args", "response")
        items = {names[k]: v if k in data else snake(v) for k, v in value.items()}
        return {**items, "nothing": None}
    return [snake(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("layout", ["camel", "snake", "config", "flat", "stream", "halves"])
def test_dumped_pairs(tmp_path: Path, layout: str) -> None:
    first = model(thought("plan"), call(1, thoughtSignature=SIGNATURE))
    second = model(call(1, thoughtSignature=SENT_BACK))
    pairs = [
        (request(user("go")), answer(first)),
        (
            request(user("go"), second, user(output(1, {"output": "a"}))),
            answer(model({"text": "done"})),
        ),
    ]
    if layout in ("snake", "config"):
        pairs = [(snake(asked), snake(given)) for asked, given in pairs]
    records: list[Any] = [{"request": asked, "response": given} for asked, given in pairs]
    if layout == "config":
        records = [
            {"request": {"model": "gemini-x", "contents": asked.pop("contents"), "config": asked}, "response": given}
            for asked, given in pairs
        ]  # fmt: skip
    elif layout == "flat":
        records = [{**asked, "response": given} for asked, given in pairs]
    elif layout == "stream":
        records[0]["response"] = [
            {"candidates": [{"index": 0, "content": model(part)}]} for part in first["parts"]
        ]
        records[0]["response"][-1]["candidates"][0]["finishReason"] = "STOP"
    elif layout == "halves":
        records = [
            {"type": kind, kind: one[kind]} for one in records for kind in ("request", "response")
        ]
    for name in ("log.jsonl", "log.json"):
        path = tmp_path / name
        if name == "log.json":
            path.write_text(json.dumps(records))
            runs = loaders.load(path)
        else:
            runs = lines(path, *records)
        assert set(runs.trajectories.collect()["format"]) == {"gemini_api"}
        assert [(k, t) for k, t in events(runs, "kind", "text") if k != "tool_call"] == [
            ("system", "Be\nbrief."),
            ("user", "go"),
            ("thinking", "plan"),
            ("tool_result", "a"),
            ("message", "done"),
        ]
        assert steps(runs, "thinking_sent", "evidence") == [(0, "wire"), (1, "wire")]
        assert steps(runs, "input_tokens")[-1] == (42,)
        assert problems(runs) == []
        assert every_event_leads_to_its_record(runs)
        assert set(runs.tools.collect()["name"]) >= {"ls"}
        modules = (openai_chat, openai_responses, gemini_api)
        assert [m for m in modules if m.sniff(Source(path).head)] == [gemini_api]


def test_contents_as_a_library_takes_them(tmp_path: Path) -> None:
    for contents, told in (
        ("go", ["go"]),
        (["go", "on"], ["go", "on"]),
        ([{"text": "go"}], ["go"]),
    ):
        asked = {"model": "gemini-x", "contents": contents, "config": {"temperature": 1}}
        runs = lines(
            tmp_path / "log.jsonl", {"request": asked, "response": answer(model({"text": "ok"}))}
        )
        assert [text for kind, text in events(runs, "kind", "text") if kind == "user"] == told
        params = runs.trajectories.collect()["params"].item()
        assert json.loads(params) == {"temperature": 1}
        assert every_event_leads_to_its_record(runs)


def test_an_archive_of_such_calls(tmp_path: Path) -> None:
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks())
    entry = {
        "startedDateTime": "2026-01-31T10:00:00Z",
        "time": 1000,
        "request": {
            "url": f"{HOST}/gemini-x:streamGenerateContent?alt=sse&key=secret",
            "postData": {"text": json.dumps(request(user("go")))},
        },
        "response": {"status": 200, "content": {"text": body}},
    }
    counted = {**entry, "request": {"url": f"{HOST}/gemini-x:countTokens"}}
    path = tmp_path / "a.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": [entry, counted]}}))
    runs = loaders.load(path)
    assert events(runs, "kind", "text", "signature", "arguments")[2:] == STREAMED
    assert runs.trajectories.collect()["provider"].to_list() == ["google"]
    assert problems(runs) == ["1 requests that are no calls of a model are not read here"]


def test_a_large_cassette_in_json_is_one_too(tmp_path: Path) -> None:
    """Its first request ends behind the head that detection looks at."""
    asked = request(user("x" * 20_000), systemInstruction=None)
    sent = {"uri": URL, "method": "POST", "body": json.dumps(asked)}
    given = {"body": {"string": json.dumps(answer(model({"text": "ok"})))}, "status": {"code": 200}}
    path = tmp_path / "t.yaml"
    path.write_text(
        json.dumps({"interactions": [{"request": sent, "response": given}], "version": 1})
    )
    runs = loaders.load(path, format="gemini_api")
    assert kinds(runs) == ["user", "message"]


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]], {"text": 5}, True, [None]])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    keys = ("text", "thought", "thoughtSignature", "functionCall", "functionResponse", "inlineData")
    wrong: list[Any] = [
        {key: junk} for key in (*keys, "executableCode", "codeExecutionResult", "toolCall")
    ]
    wrong += [{"text": "a", "thought": junk, "thoughtSignature": junk}, junk]
    wrong += [{"functionCall": {"name": junk, "args": junk, "id": junk}}]
    wrong += [{"functionResponse": {"name": junk, "response": junk, "id": junk, "parts": junk}}]
    first = {"request": request(user("hi")), "response": answer(model({"text": "ok"}))}
    records: list[Any] = [
        first,
        {"request": request(user(*wrong), model(*wrong)), "response": junk},
    ]
    records += [
        {
            "request": request(user("a"), tools=junk, systemInstruction=junk),
            "response": answer(junk),
        },
        {"request": request(user("b")), "response": answer(model(*wrong), groundingMetadata=junk)},
        {"request": request(user("c")), "response": {"candidates": junk, "usageMetadata": junk}},
        {"request": request(user("d")), "response": {"candidates": [junk], "promptFeedback": junk}},
        {"request": request(user("e")), "response": [answer(model(part)) for part in wrong]},
        {"request": {**request(), "contents": junk}, "response": answer(model(*wrong))},
        {"request": request(junk, {"role": junk, "parts": junk}), "response": [junk, answer(junk)]},
    ]
    runs = lines(tmp_path / "log.jsonl", *records)
    assert "hi" in [text for (text,) in events(runs, "text")]
    assert not [reason for reason in problems(runs) if "Error" in reason]


def test_no_file_of_another_format_is_claimed(real_logs: Path) -> None:
    strangers = [
        path
        for path in sorted(real_logs.rglob("*"))
        if path.is_file() and path.parent.name not in ("gemini_api", "bedrock_converse")
    ]
    assert len(strangers) > 200
    claimed = [p.name for p in strangers if gemini_api.sniff(Source(p).head)]
    assert claimed == []
