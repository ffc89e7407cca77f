"""HTTP archives, of exchanges with a real local server and of such written here."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import loaders
from loaders import Trajectories
from loaders.formats import har
from loaders.sources import Source

Object = dict[str, Any]
SAID = {"role": "assistant", "content": "done", "reasoning_content": "second thought"}
CALL = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
ASKS = {"role": "assistant", "content": "", "reasoning_content": "first thought"}
ASKS["tool_calls"] = [CALL]
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
ANSWER = {"role": "tool", "tool_call_id": "c1", "content": "a b"}
USER = {"role": "user", "content": "list"}


def stream(*events: Object) -> str:
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)


def claude_stream() -> str:
    thinking = {"type": "thinking_delta", "thinking": "a plan"}
    return stream(
        {"type": "message_start", "message": {"model": "claude-x", "role": "assistant"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        {"type": "content_block_delta", "index": 0, "delta": thinking},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    )


def responses_body() -> Object:
    parts = [{"type": "output_text", "text": "hello"}]
    item = {"type": "message", "role": "assistant", "content": parts}
    return {"object": "response", "id": "r", "model": "gpt-x", "output": [item]}


class Model(BaseHTTPRequestHandler):
    """A model server that answers by path; its second chat reply goes on from the first one."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/messages":
            body, kind = claude_stream(), "text/event-stream"
        elif self.path == "/v1/responses":
            body, kind = json.dumps(responses_body()), "application/json"
        elif self.path == "/v1/chat/completions":
            message = SAID if len(asked["messages"]) > 1 else ASKS
            choice = {"message": message, "finish_reason": "stop"}
            body = json.dumps({"model": "m-1", "choices": [choice], "usage": USAGE})
            kind = "application/json"
        else:
            body, kind = '{"input_tokens": 1}', "application/json"
        data = gzip.compress(body.encode())
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def exchange(port: int, path: str, body: Object, packed: bool = False) -> Object:
    """Send a request, and note it down as an entry; ``packed``: the body in base64, as received."""
    began = datetime.now(UTC)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", path, json.dumps(body), {"Authorization": "Bearer sk-none"})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    text = base64.b64encode(data).decode() if packed else gzip.decompress(data).decode()
    content: Object = {"size": len(data), "mimeType": answer.headers["Content-Type"], "text": text}
    if packed:
        content["encoding"] = "base64"
    return {
        "startedDateTime": began.isoformat().replace("+00:00", "Z"),
        "time": (datetime.now(UTC) - began).total_seconds() * 1e3,
        "request": {
            "method": "POST",
            "url": f"http://127.0.0.1:{port}{path}?key=secret",
            "headers": [],
            "postData": {"mimeType": "application/json", "text": json.dumps(body)},
        },
        "response": {"status": answer.status, "content": content},
    }


def archive(path: Path, *entries: Any) -> Path:
    log = {"version": "1.2", "creator": {"name": "writer", "version": "1"}, "entries": entries}
    path.write_text(json.dumps({"log": log}))
    return path


def chat(port: int, packed: bool) -> list[Object]:
    first = {"model": "m", "messages": [USER]}
    second = {"model": "m", "messages": [USER, ASKS, ANSWER]}
    return [exchange(port, "/v1/chat/completions", body, packed) for body in (first, second)]


def kinds(runs: Trajectories) -> list[str]:
    return runs.events.collect()["kind"].to_list()


def problems(runs: Trajectories) -> list[str]:
    return runs.problems.collect()["reason"].to_list()


@pytest.mark.parametrize("packed", [False, True])
def test_a_conversation_on_an_archive(tmp_path: Path, port: int, packed: bool) -> None:
    entries = chat(port, packed)
    runs = loaders.load(archive(tmp_path / "a.har", *entries))
    assert kinds(runs) == ["user", "thinking", "tool_call", "tool_result", "thinking", "message"]
    columns = ("thinking_available", "thinking_sent", "evidence", "input_tokens", "model")
    rows = runs.steps.select(columns).collect().rows()
    assert rows == [(0, 0, "wire", 7, "m-1"), (1, 1, "wire", 7, "m-1")]
    steps = runs.steps.collect()
    assert steps["started_at"][0] == datetime.fromisoformat(entries[0]["startedDateTime"])
    elapsed = (steps["ended_at"][0] - steps["started_at"][0]).total_seconds() * 1e3
    assert elapsed == pytest.approx(entries[0]["time"], abs=0.01)
    assert "secret" not in runs.trajectories.collect()["metadata"][0]
    for run, seq in runs.events.select("trajectory_id", "seq").collect().rows():
        assert runs.raw(run, seq)


def test_streams_of_several_apis_and_other_requests(tmp_path: Path, port: int) -> None:
    messages = {"model": "claude-x", "max_tokens": 9, "messages": [USER]}
    entries = [
        exchange(port, "/v1/messages", messages, packed=True),
        exchange(port, "/v1/messages/count_tokens", messages),
        exchange(port, "/v1/responses", {"model": "gpt-x", "input": "hi"}),
    ]
    runs = loaders.load(archive(tmp_path / "a.har", *entries))
    assert kinds(runs) == ["user", "thinking", "user", "message"]
    assert runs.steps.collect()["model"].to_list() == ["claude-x", "gpt-x"]
    assert problems(runs) == ["1 requests that are no calls of a model are not read here"]


def test_calls_are_taken_as_they_were_answered(tmp_path: Path, port: int) -> None:
    entries = chat(port, packed=False)
    assert kinds(loaders.load(archive(tmp_path / "a.har", *reversed(entries)))) == kinds(
        loaders.load(archive(tmp_path / "b.har", *entries))
    )


def test_bodies_left_out_and_failures(tmp_path: Path, port: int) -> None:
    entries = [*chat(port, packed=False), *chat(port, packed=False)[:1]]
    del entries[1]["response"]["content"]["text"]
    entries[2]["request"]["postData"]["text"] = json.dumps(
        {"model": "m", "messages": [{**USER, "content": "other"}]}
    )
    entries[2]["response"] = {"status": 529, "content": {"text": '{"error": {"message": "busy"}}'}}
    runs = loaders.load(archive(tmp_path / "a.har", *entries, None))
    assert runs.steps.collect()["error"].to_list() == [None, None, "busy"]
    assert problems(runs) == [
        "the archive left out this body",
        "no entry of an archive",
        "no response was recorded",
    ]


def test_an_archive_cut_short(tmp_path: Path, port: int) -> None:
    path = archive(tmp_path / "a.har", *chat(port, packed=False))
    path.write_text(path.read_text()[:-40])
    runs = loaders.load(path)
    assert kinds(runs)[:3] == ["user", "thinking", "tool_call"]
    assert any("what stands before it is read" in reason for reason in problems(runs))


def test_addresses_and_the_client_are_kept_without_credentials(tmp_path: Path, port: int) -> None:
    entries = chat(port, packed=False)
    address = entries[0]["request"]["url"].partition("?")[0]
    for number, entry in enumerate(entries):
        entry["request"]["url"] = f"{address}?api-version={number}&key=secret&sig=hidden"
        entry["request"]["headers"] = [
            {"name": "User-Agent", "value": "agent/1.2"},
            {"name": "Authorization", "value": "Bearer hidden"},
        ]
    entries[0]["comment"] = "run 7"
    runs = loaders.load(archive(tmp_path / "a.har", *entries))
    metadata = runs.trajectories.collect()["metadata"][0]
    assert json.loads(metadata) == {
        "url": [f"{address}?api-version={number}" for number in (0, 1)],
        "request_headers": {"user-agent": "agent/1.2"},
        "comment": "run 7",
        "requested_model": "m",
    }
    assert "hidden" not in metadata


def test_positions_lead_as_far_as_the_archive_goes(tmp_path: Path, port: int) -> None:
    entry = chat(port, packed=False)[0]
    cut = {**entry, "response": {"status": 503}}
    runs = loaders.load(archive(tmp_path / "a.har", cut))
    row = runs.events.collect().row(-1, named=True)
    assert (row["kind"], row["source_pos"]) == ("error", "/log/entries/0/response")
    assert runs.raw(row["trajectory_id"], row["seq"]) == {"status": 503}


def test_no_value_of_an_archive_is_lost(tmp_path: Path, port: int) -> None:
    entries = chat(port, packed=False)
    messages = {"model": "claude-x", "max_tokens": 9, "messages": [USER]}
    entries += [
        exchange(port, "/v1/messages", messages),
        exchange(port, "/v1/responses", {"model": "gpt-x", "input": "hi"}),
    ]
    path = archive(tmp_path / "a.har", *entries)
    lost = loaders.coverage(path, progress=False).lost
    assert lost.height == 0, lost["path"].to_list()


def test_what_is_an_archive(tmp_path: Path, real_logs: Path) -> None:
    path = tmp_path / "x.json"
    bare: Object = {"startedDateTime": "2026-01-01T00:00:00Z", "request": {}}
    for value, expected in (
        ({"log": {"entries": [bare]}}, True),
        ({"log": {"version": "1.2", "entries": []}}, True),
        ({"log": {"entries": [1]}}, False),
        ({"log": "text"}, False),
        ([{"log": []}], False),
    ):
        path.write_text(json.dumps(value))
        assert har.sniff(Source(path).head) is expected
    files = [file for file in real_logs.rglob("*") if file.is_file()]
    assert [file for file in files if har.sniff(Source(file).head)] == []


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]], -1e30, "%%%"])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, port: int, junk: Any) -> None:
    whole = chat(port, packed=False)
    entries = [{**whole[0], key: junk} for key in whole[0]]
    for part in ("request", "response"):
        entries += [{**whole[0], part: {**whole[0][part], key: junk}} for key in whole[0][part]]
    runs = loaders.load(archive(tmp_path / "a.har", *entries, *whole))
    assert "done" in runs.events.collect()["text"].to_list()
    assert not [reason for reason in problems(runs) if "Error:" in reason]
