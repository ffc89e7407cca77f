"""A model server on 127.0.0.1 that speaks three APIs for the simulated agent, streamed or whole.

``POST /<arm>/<task>/<trial>[/<style>]/v1/`` and then ``chat/completions``, ``responses`` or
``messages``: the path names the run and how thinking is given (see ``api_chat``, ``api_responses``,
``api_messages``). The task and the trial seed the agent; the arm is for the record alone and never
reaches it. All that goes over the wire is kept, run by run.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import api_chat
import api_messages
import api_responses
import har
from agent import MODELS, Parameters, Reply, respond, thinking_of
from api import Asked, Call, Refusal
from counting import Sized, Usage, parts_of, usage_of

_RUN = re.compile(
    r"/(?P<arm>[\w-]+)/(?P<task>[\w-]+)/(?P<trial>[\w-]+)(?:/(?P<style>\w+))?/v1/(.+)"
)
_APIS: dict[str, Any] = {module.PATH: module for module in (api_chat, api_messages, api_responses)}
_JSON = "application/json"


@dataclass
class Record:
    """What the server knows of one run: the truth of what was sent back to the model."""

    thinking_sent: list[int] = field(default_factory=list)
    """For each request, how many earlier replies came with their thinking."""
    thinking_available: list[int] = field(default_factory=list)
    """For each request, how many replies the run had before it; each of them had thinking."""
    thinking_as_text: list[int] = field(default_factory=list)
    """For each request, how many thinking texts stood in it as plain text, lost as thinking."""
    thoughts: list[str] = field(default_factory=list)
    """The thinking of each reply, whatever of it was shown to the client."""
    slips: list[tuple[int, str]] = field(default_factory=list)
    """(step, what went wrong inside the agent)."""


Run = tuple[str, str, str]
"""Arm, task, and the trial or whatever else seeds a run beside its task."""


class ModelServer(ThreadingHTTPServer):
    """Answers requests, and keeps a record of every run."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.records: dict[Run, Record] = {}
        self.exchanges: dict[Run, list[har.Exchange]] = {}
        self.lock = threading.Lock()
        self.store = api_responses.Store()
        self._latest: dict[Run, list[Sized]] = {}
        """Each run's latest request, for what of the next one is cached."""

    def base_url(
        self, arm: str, task: str, trial: int | str, style: str | None = None, version: str = "/v1"
    ) -> str:
        """Where the client of one run sends its requests.

        Anthropic's client adds the version itself: it takes ``version=""``.
        """
        run = f"{arm}/{task}/{trial}" + (f"/{style}" if style else "")
        return f"http://127.0.0.1:{self.server_port}/{run}{version}"

    def answer(self, run: Run, api: Any, body: dict[str, Any], style: str | None) -> Call:
        """Ask the agent, and note what the request held."""
        params = _params_of(body["model"])
        with self.lock:
            asked: Asked = api.asked(body, self.store) if api is api_responses else api.asked(body)
            reply = respond(asked.messages, asked.tools, "/".join(run[1:]), params)
            number, usage = self._note(run, asked, reply)
            mark = hashlib.sha256(f"{'/'.join(run)}/{number}".encode()).hexdigest()
            call = Call(body, reply, usage, mark, int(time.time()), style)
            if api is api_responses:
                self.store.keep(call, api.answer(call))
            return call

    def _note(self, run: Run, asked: Asked, reply: Reply) -> tuple[int, Usage]:
        """Keep what this request held; returns the request's number in the run, and the usage."""
        earlier = [m for m in asked.messages if m["role"] == "assistant"]
        record = self.records.setdefault(run, Record())
        number = len(record.thinking_sent)
        text = "\n".join(str(m.get("content")) for m in asked.messages)
        record.thinking_available.append(len(earlier))
        record.thinking_sent.append(sum(thinking_of(m) is not None for m in earlier))
        record.thinking_as_text.append(sum(thought in text for thought in record.thoughts))
        record.slips += [(len(earlier), slip) for slip in reply.slips]
        parts = parts_of(asked.messages, asked.tools)
        usage = usage_of(parts, self._latest.get(run, []), reply)
        self._latest[run] = parts
        record.thoughts.append(reply.thinking)
        return number, usage

    def write_har(self, path: Path, runs: Iterable[Run] | None = None) -> None:
        """Write what went over the wire of these runs, or of all, as an HTTP archive."""
        chosen = self.exchanges if runs is None else [(a, t, str(n)) for a, t, n in runs]
        exchanges = [exchange for run in chosen for exchange in self.exchanges[run]]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(har.archive(exchanges), encoding="utf-8")


@contextmanager
def serving() -> Iterator[ModelServer]:
    """A running server on a free port, stopped at the end."""
    server = ModelServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _params_of(model: str) -> Parameters:
    """The agent behind a model's name, which may say more before it: a provider, a family."""
    for name, params in MODELS.items():
        if model == name or re.search(rf"\W{re.escape(name)}$", model):
            return params
    raise Refusal(f"The model '{model}' does not exist", 404, "not_found_error")


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The list of models, for clients that look there first."""
        if not self.path.endswith("/models"):
            return self._send(404, _JSON, json.dumps(api_chat.error(_no_path(self.path))))
        models = [{"id": name, "object": "model", "owned_by": "sample"} for name in MODELS]
        return self._send(200, _JSON, json.dumps({"object": "list", "data": models}))

    def do_POST(self) -> None:
        began, clock = datetime.now(UTC), time.perf_counter()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        match = _RUN.fullmatch(self.path.partition("?")[0])
        api = _APIS.get(match[5]) if match else None
        if match is None or api is None:
            return self._send(404, _JSON, json.dumps(api_chat.error(_no_path(self.path))))
        run = (match["arm"], match["task"], match["trial"])
        status, kind, answer = self._answer(run, api, body, match["style"])
        elapsed = (time.perf_counter() - clock) * 1000
        url = f"http://127.0.0.1:{self.server.server_port}{self.path}"
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            self.server.exchanges.setdefault(run, []).append(
                har.Exchange("POST", url, headers, body, status, kind, answer, began, elapsed)
            )
        return self._send(status, kind, answer)

    def _answer(self, run: Run, api: Any, text: str, style: str | None) -> tuple[int, str, str]:
        """Status, content type and text of the response."""
        try:
            body = json.loads(text)
            call = self.server.answer(run, api, body, style)
            if body.get("stream"):
                return 200, "text/event-stream; charset=utf-8", "".join(api.stream(call))
            return 200, _JSON, json.dumps(api.answer(call))
        except Refusal as refusal:
            return refusal.status, _JSON, json.dumps(api.error(refusal))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            refusal = Refusal(f"{type(error).__name__}: {error}")
            return refusal.status, _JSON, json.dumps(api.error(refusal))

    def _send(self, status: int, kind: str, text: str) -> None:
        payload = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """No access log."""


def _no_path(path: str) -> Refusal:
    return Refusal(f"no such path: {path}", 404, "not_found_error")
