"""Recorded traffic: cassettes in every layout, packed bodies, and what no model was called with."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import loaders
from loaders import LoadError, Trajectories
from loaders.apis import api_of_url
from loaders.errors import UnreadableRecord
from loaders.formats import anthropic_messages, openai_chat
from loaders.sources import Source
from loaders.yamltext import decode_yaml

Object = dict[str, Any]
CHAT_URL = "https://api.openai.com/v1/chat/completions"
MESSAGES_URL = "https://api.anthropic.com/v1/messages"
REQUEST = {"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}]}
RESPONSE = {
    "model": "gpt-x",
    "choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}
CLAUDE = {"model": "claude-x", "max_tokens": 9, "messages": REQUEST["messages"]}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hello"}]}


def interaction(
    url: str = CHAT_URL, request: Any = None, response: Any = None, code: int = 200
) -> Object:
    """One call as vcrpy writes it down."""
    return {
        "request": {"body": request, "headers": {}, "method": "POST", "uri": url},
        "response": {"body": {"string": response}, "status": {"code": code, "message": "-"}},
    }


def write(path: Path, *interactions: Object, **more: Any) -> Path:
    path.write_text(yaml.safe_dump({"interactions": list(interactions), "version": 1, **more}))
    return path


def chat(
    url: str = CHAT_URL, request: Any = REQUEST, response: Any = None, code: int = 200
) -> Object:
    return interaction(url, json.dumps(request), response or json.dumps(RESPONSE), code)


def texts(runs: Trajectories) -> list[str | None]:
    return runs.events.collect()["text"].to_list()


def problems(runs: Trajectories) -> list[str]:
    return runs.problems.collect()["reason"].to_list()


def formats(path: Path) -> list[str]:
    modules = (openai_chat, anthropic_messages)
    return [m.__name__.split(".")[-1] for m in modules if m.sniff(Source(path).head)]


# ---------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(RESPONSE),
        json.dumps(RESPONSE).encode(),
        gzip.compress(json.dumps(RESPONSE).encode()),
        base64.b64encode(json.dumps(RESPONSE).encode()).decode(),
        base64.encodebytes(gzip.compress(json.dumps(RESPONSE).encode())).decode(),
    ],
    ids=["text", "bytes", "gzip", "base64", "gzip in base64"],
)
def test_bodies_however_they_are_packed(tmp_path: Path, body: str | bytes) -> None:
    runs = loaders.load(write(tmp_path / "tape.yaml", chat(response=body)))
    assert texts(runs) == ["hi", "hello"]
    assert problems(runs) == []
    (trajectory_id,) = runs.trajectories.collect()["trajectory_id"]
    assert [runs.raw(trajectory_id, seq) for seq in (0, 1)] == ["hi", "hello"]


def test_a_body_that_cannot_be_unpacked_is_a_problem(tmp_path: Path) -> None:
    cut = gzip.compress(json.dumps(RESPONSE).encode())[:-20]
    later = {**REQUEST, "messages": [{"role": "user", "content": "bye"}]}
    unknown = b"\x8b\x00\x80br"
    tape = write(
        tmp_path / "t.yaml", chat(response=unknown), chat(response=cut), chat(request=later)
    )
    runs = loaders.load(tape)
    assert texts(runs) == ["hi", "bye", "hello"]
    assert sorted(problems(runs)) == [
        "a packed body is cut short",
        *["no response was recorded"] * 2,
        "the body is no text (packed by brotli, or binary)",
    ]


def test_a_response_that_is_no_json_is_the_text_of_the_error(tmp_path: Path) -> None:
    page = chat(response="<html>Bad gateway</html>", code=502)
    runs = loaders.load(write(tmp_path / "t.yaml", page, chat()))
    assert runs.trajectories.collect()["steps"].to_list() == [2]
    assert runs.events.select("kind", "text", "error_type").collect().rows() == [
        ("user", "hi", None),
        ("error", "<html>Bad gateway</html>", "HTTP 502"),
        ("message", "hello", None),
    ]


# ---------------------------------------------------------------------- layouts


def as_ruby(call: Object) -> Object:
    body = call["response"]["body"]["string"]
    packed = base64.b64encode(body.encode()).decode()
    return {
        "request": {**call["request"], "body": {"encoding": "UTF-8", "string": call["request"]["body"]}},
        "response": {"status": {"code": 200}, "body": {"base64_string": packed}},
        "recorded_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def test_layouts_of_cassettes(tmp_path: Path) -> None:
    call = chat()
    tapes = {
        "vcrpy.yaml": yaml.safe_dump({"interactions": [call], "version": 1}),
        "dashes.yaml": "---\n" + yaml.safe_dump({"interactions": [call], "version": 1}),
        "parallel.yml": yaml.safe_dump({"requests": [call["request"]], "responses": [call["response"]]}),
        "tape.json": json.dumps({"version": 1, "interactions": [call]}),
        "indented.json": json.dumps({"version": 1, "interactions": [call]}, indent=2),
        "ruby.yml": yaml.safe_dump({"http_interactions": [as_ruby(call)], "recorded_with": "VCR"}),
    }  # fmt: skip
    for name, text in tapes.items():
        path = tmp_path / name
        path.write_text(text)
        assert formats(path) == ["openai_chat"], name
        runs = loaders.load(path)
        assert (texts(runs), problems(runs)) == (["hi", "hello"], []), name
        assert runs.trajectories.collect()["input_tokens"].to_list() == [3]
        (trajectory_id,) = runs.trajectories.collect()["trajectory_id"]
        assert runs.raw(trajectory_id, 1) == "hello", name


def test_time_of_recording_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ruby.yml"
    path.write_text(
        yaml.safe_dump({"http_interactions": [as_ruby(chat())], "recorded_with": "VCR"})
    )
    assert loaders.load(path).steps.collect()["ended_at"].item().year == 2026


def test_a_cassette_cut_short_keeps_its_whole_calls(tmp_path: Path) -> None:
    later = {**REQUEST, "messages": [{"role": "user", "content": "bye"}]}
    text = write(tmp_path / "t.yaml", chat(), chat(request=later)).read_text()
    path = tmp_path / "cut.yaml"
    path.write_text(text[: text.rindex("bye")])
    runs = loaders.load(path)
    assert texts(runs) == ["hi", "hello"]
    reasons = problems(runs)
    assert any("what stands before it is read" in reason for reason in reasons)
    assert any("may be cut short" in reason for reason in reasons)


def test_requests_without_responses_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump({"requests": [chat()["request"]], "responses": []}))
    runs = loaders.load(path)
    assert texts(runs) == ["hi"]
    assert problems(runs) == ["1 requests, but 0 responses", "no response was recorded"]


# ---------------------------------------------------------------------- which API


@pytest.mark.parametrize(
    ("url", "api"),
    [
        (CHAT_URL, "openai_chat"),
        ("https://x.example/openai/deployments/d/chat/completions?api-version=1", "openai_chat"),
        (MESSAGES_URL + "?beta=true", "anthropic_messages"),
        ("https://x.example/v1/projects/p/publishers/anthropic/models/c:streamRawPredict", "anthropic_messages"),
        ("https://api.openai.com/v1/responses", "openai_responses"),
        ("https://x.example/v1beta/models/g:streamGenerateContent?alt=sse", "gemini_api"),
        ("https://bedrock.example/model/c/converse", "bedrock_converse"),
        ("https://bedrock.example/model/c/converse-stream", "bedrock_converse"),
        ("https://bedrock.example/model/c/invoke", "bedrock_invoke"),
        (MESSAGES_URL + "/count_tokens", None),
        ("https://api.openai.com/v1/models", None),
        ("http://[broken", None),
        (None, None),
    ],
)  # fmt: skip
def test_apis_by_their_addresses(url: str | None, api: str | None) -> None:
    assert api_of_url(url) == api


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (chat(), "openai_chat"),
        (chat(url="**REDACTED**"), "openai_chat"),
        (interaction(MESSAGES_URL, json.dumps(CLAUDE), json.dumps(SAID)), "anthropic_messages"),
        (interaction("**REDACTED**", json.dumps(CLAUDE), json.dumps(SAID)), "anthropic_messages"),
        (interaction("**REDACTED**", json.dumps(CLAUDE).encode(), json.dumps(SAID).encode()), "anthropic_messages"),
        (interaction("https://a.example/v1/responses", '{"input": "hi"}', "{}"), None),
        (interaction("**REDACTED**", '{"input": "hi"}', "{}"), None),
        (interaction("**REDACTED**", '{"messages": [], "inferenceConfig": {}}', "{}"), None),
    ],
)  # fmt: skip
def test_one_format_at_most_claims_a_cassette(
    tmp_path: Path, call: Object, expected: str | None
) -> None:
    path = write(tmp_path / "t.yaml", call)
    assert formats(path) == [expected] * (expected is not None)
    if expected is not None:
        assert texts(loaders.load(path)) == ["hi", "hello"]


@pytest.mark.parametrize("padding", [0, 40_000], ids=["short", "beyond the head"])
def test_a_long_request_hides_no_api(tmp_path: Path, padding: int) -> None:
    long = {**CLAUDE, "system": "x" * padding}
    tape = {"requests": [interaction(MESSAGES_URL, json.dumps(long).encode())["request"]], "responses": [{"body": {"string": json.dumps(SAID).encode()}}]}  # fmt: skip
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(tape))
    assert formats(path) == ["anthropic_messages"]


def test_calls_of_several_apis_on_one_tape(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.yaml",
        interaction(MESSAGES_URL, json.dumps(CLAUDE), json.dumps(SAID)),
        interaction(MESSAGES_URL + "/count_tokens", json.dumps(CLAUDE), '{"input_tokens": 1}'),
        interaction("https://api.openai.com/v1/models", None, "{}"),
        interaction("https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke", "{}", "{}"),
        chat(),
    )
    assert formats(path) == ["openai_chat"]
    runs = loaders.load(path)
    assert runs.trajectories.collect()["provider"].to_list() == ["anthropic", "openai"]
    assert sorted(problems(runs)) == [
        "1 calls of bedrock_invoke are not read here",
        "2 requests that are no calls of a model are not read here",
    ]


def test_addresses_are_kept_without_what_may_be_a_key(tmp_path: Path) -> None:
    url = "https://user:secret@llm.example/v1/chat/completions?key=secret"
    runs = loaders.load(write(tmp_path / "t.yaml", chat(url=url)))
    row = runs.trajectories.collect().row(0, named=True)
    assert row["provider"] == "llm.example"
    assert json.loads(row["metadata"]) == {"url": "https://llm.example/v1/chat/completions"}


# ---------------------------------------------------------------------- hostile YAML


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: &a [x, x]\n" + "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 50)}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)), "expand"),
        ("a: &a [*a]", "contains itself"),
        ("[" * 100_000, "nested too deeply"),
        ("- " * 5_000 + "x", "nested too deeply"),
        ("a: 1\n b: [", "mapping values"),
        ("? [a]\n: b", "unhashable"),
    ],
    ids=["tag", "bomb", "cycle", "flow", "block", "syntax", "key"],
)  # fmt: skip
def test_hostile_yaml_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UnreadableRecord, match=reason):
        decode_yaml(text.encode())


def test_aliases_of_equal_values_are_read() -> None:
    assert decode_yaml(b"a: &id001 [x]\nb: *id001") == {"a": ["x"], "b": ["x"]}


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, [[]], {"a": None}, True])
def test_hostile_tapes_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    calls: list[Any] = [junk, {"request": junk, "response": junk}]
    for half, keys in (
        ("request", ("body", "headers", "method", "uri")),
        ("response", ("body", "status")),
    ):
        calls += [{**chat(), half: {**chat()[half], key: junk}} for key in keys]
    last = {**REQUEST, "messages": [{"role": "user", "content": "last"}]}
    path = write(tmp_path / "t.yaml", *calls, chat(request=last))
    runs = loaders.load(path, format="openai_chat")
    assert runs.events.filter(pl.col("text") == "last").collect().height == 1
    assert not [reason for reason in problems(runs) if "Error:" in reason]


def test_a_tape_without_model_calls_is_no_log(tmp_path: Path) -> None:
    path = write(tmp_path / "t.yaml", interaction("https://a.example/x", None, "{}"))
    assert formats(path) == []
    with pytest.raises(LoadError, match="1 requests that are no calls of a model"):
        loaders.load(path, format="openai_chat")
