"""Tells the events, calls and columns of a conversation that was rebuilt from recorded calls."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from loaders.builder import Builder
from loaders.context import Range, merge
from loaders.conversations import NEW, Call, Conversation, Item, visible_text
from loaders.dialects.asides import agreed, agreed_by_key, rest_of_response, rest_of_usage
from loaders.dialects.openai_chat import text_and_media
from loaders.dialects.wire import Part, Reply, cost_of
from loaders.redact import is_secret_key
from loaders.rows import identity_of, metadata_of, outcome_of
from loaders.run import Run
from loaders.values import Object, as_array, as_object, as_text, as_time

_PROVIDERS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral",
    "api.cerebras.ai": "cerebras",
    "api.z.ai": "zai",
    "api.groq.com": "groq",
    "api.x.ai": "xai",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.moonshot.ai": "moonshot",
    "openrouter.ai": "openrouter",
    "generativelanguage.googleapis.com": "google",
}
_CLOUDS = (
    (re.compile(r"bedrock-runtime(?:-fips)?\..+\.amazonaws\.com(?:\.cn)?"), "bedrock"),
    (re.compile(r"(?:.+-)?aiplatform\.googleapis\.com"), "google-vertex"),
)


_SECRET_IN_QUERY = re.compile(r"(?i)key|token|secret|sig|auth|credential|passw|code")
_LONGEST_IN_QUERY = 64


class Teller:
    """Tells one conversation as a run: each turn once, each call with what it was shown."""

    def __init__(self, conversation: Conversation, out: Builder) -> None:
        self._conversation = conversation
        self._wire = conversation.wire
        self._out = out
        self._spans: list[Range] = []
        self._thinking: dict[int, int] = {}

    def tell(self) -> None:
        calls = self._conversation.calls
        first = calls[0].recorded
        run = self._out.trajectory(pos=first.request_pos or first.response_pos, **self._columns())
        numbers = {item: turn for turn, item in enumerate(self._conversation.turns)}
        for index, item in enumerate(self._conversation.items):
            start, before = run.seq, len(run.thinking_seqs)
            self._tell_item(run, item)
            self._spans.append((start, run.seq))
            thoughts = self._conversation.thoughts.get(numbers.get(index, NEW), range(0))
            self._thinking.update(zip(thoughts, run.thinking_seqs[before:], strict=False))
        extra = calls[-1].recorded.extra
        if any(value is not None and value != [] for value in outcome_of(extra).values()):
            run.outcome(**outcome_of(extra))

    def _columns(self) -> dict[str, Any]:
        calls = self._conversation.calls
        recorded = [call.recorded for call in calls]
        params = [self._wire.params(one.request) for one in recorded]
        shared = {
            key: value
            for key, value in recorded[0].extra.items()
            if all(one.extra.get(key) == value for one in recorded)
        }
        names = identity_of(shared)
        return {
            **{key: names[key] for key in ("task_id", "trial", "benchmark") if key in names},
            "provider": provider_of(_parts_of(recorded[0].url).hostname),
            "cost_usd": _cost_of(calls),
            "params": params[0],
            "metadata": metadata_of(
                {
                    **agreed_by_key(one.extra for one in recorded),
                    **self._asides(params),
                    "params_changed": _changed(params),
                    "requested_model": self._requested_model(),
                    "url": agreed(filter(None, (address_of(one.url) for one in recorded))),
                },
                (),
            ),
        }

    def _asides(self, params: list[Object]) -> Object:
        """What the responses say beside replies and tokens, and beside what they repeat."""
        calls, name = self._conversation.calls, self._wire.name
        asides: list[Object] = []
        for call, asked in zip(calls, params, strict=True):
            body, replies = call.response.body, call.response.replies
            reply = replies[call.chosen] if replies else Reply({}, "", [])
            rest = rest_of_response(name, body, reply.message, _choice_of(body, reply.pointer))
            asides.append({key: item for key, item in rest.items() if asked.get(key) != item})
        usage = rest_of_usage(name, (call.response.body for call in calls))
        said = agreed_by_key(asides)
        return {**({"response": said} if said else {}), **usage}

    def _requested_model(self) -> Any:
        """The name under which a model was asked for, where another one answered."""
        calls = self._conversation.calls
        named = (
            (as_text(call.recorded.request.get("model")), part.columns.get("model"))
            for call in calls
            for reply in call.response.replies[:1]
            for part in reply.parts
        )
        return agreed(
            asked for asked, answered in named if answered and asked not in (None, answered)
        )

    def _tell_item(self, run: Run, item: Item) -> None:
        if item.call is not None:
            self._tell_call(run, item.call)
        elif item.turn is None:
            return
        elif item.is_rewritten:
            if text := _text_of(item.turn.message):
                run.event("other", text, item.pos, actor="client", error_type="rewritten")
        elif item.is_prefill:
            text = visible_text(item.turn.message)
            run.message(text, f"{item.pos}/content", actor="prefill")
        elif item.turn.is_reply and not item.is_system:
            run.step(source_pos=item.pos)
            reply = Reply(item.turn.message, "", [])
            self._wire.write_reply(run, reply, Part(0, None, {}), item.pos)
        else:
            self._wire.write_turn(run, item.turn, item.pos)

    def _tell_call(self, run: Run, call: Call) -> None:
        recorded, response = call.recorded, call.response
        if call.tools is not None:
            run.tools(call.tools)
        reply = response.replies[call.chosen] if response.replies else None
        parts = reply.parts if reply else [Part(0, None, {"model": None})]
        place = recorded.response_pos or recorded.request_pos
        pos = place + (reply.pointer if reply else "")
        start = run.seq
        for part in parts:
            run.step(
                source_pos=pos,
                started_at=recorded.started_at or _created(response.body),
                ended_at=recorded.ended_at or as_time(response.body.get("completed_at")),
                error=response.error,
            )
            columns = {name: value for name, value in part.columns.items() if value is not None}
            columns.setdefault("model", as_text(recorded.request.get("model")))
            run.update_step(**columns)
            self._tell_context(run, call, part, start)
            if reply is not None:
                self._wire.write_reply(run, reply, part, pos)
                if self._wire.shows_thinking and run.steps[-1].thinking is None:
                    run.update_step(thinking="absent")
        if response.error is not None:
            at, pos = recorded.ended_at, place + ("/error" if response.body.get("error") else "")
            text = response.error if response.error != response.error_type else None
            run.event("error", text, pos, error_type=response.error_type, at=at)

    def _tell_context(self, run: Run, call: Call, part: Part, start: int) -> None:
        if not call.is_whole:
            return
        if part.is_compacted:  # the call before it summed up everything else
            spans = [self._spans[system] for system in call.systems]
            run.saw([*spans, (start, run.seq)], set(), "wire", "compacted")
            return
        spans = [(self._spans[first][0], self._spans[stop - 1][1]) for first, stop in call.context]
        sent = {self._thinking[thought] for thought in call.sent if thought in self._thinking}
        run.saw(merge(spans), sent, "wire", call.edit)


def provider_of(host: str | None) -> str | None:
    """Who serves the models at a host; the host itself where that is not known.

    >>> provider_of("bedrock-runtime.us-east-1.amazonaws.com"), provider_of("llm.example")
    ('bedrock', 'llm.example')
    """
    cloud = next((name for pattern, name in _CLOUDS if pattern.fullmatch(host or "")), None)
    return cloud or _PROVIDERS.get(host or "", host)


def _created(response: Object) -> datetime | None:
    keys = ("created", "created_at", "createTime", "create_time")
    return next((time for key in keys if (time := as_time(response.get(key)))), None)


def _text_of(message: Object) -> str | None:
    """What a turn says: its text, or that of the tool results in it."""
    if text := visible_text(message):
        return text
    parts = map(as_object, as_array(message.get("content")))
    outputs = [message.get("output"), *(part.get("content") for part in parts)]
    texts = (text_and_media(output)[0] for output in outputs)
    return "\n".join(filter(None, texts)) or None


def _choice_of(body: Object, pointer: str) -> Object:
    """What stands around a reply where a response may have several."""
    number = pointer.removeprefix("/choices/").partition("/")[0]
    choices = as_array(body.get("choices"))
    return as_object(choices[int(number)]) if number.isdigit() and choices else {}


def _cost_of(calls: list[Call]) -> float | None:
    costs = (
        cost_of(call.response.body) if call.recorded.cost_usd is None else call.recorded.cost_usd
        for call in calls
    )
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def _changed(params: list[Object]) -> Object | None:
    """Parameters that are not those of the first call in all others, with all their values."""
    keys = sorted({key for one in params for key in one.keys() | params[0].keys()})
    changed = [key for key in keys if any(one.get(key) != params[0].get(key) for one in params)]
    return {key: agreed(one.get(key) for one in params) for key in changed} or None


def _parts_of(url: str | None) -> SplitResult:
    try:
        parts = urlsplit(url or "")
        _ = parts.hostname, parts.port
    except ValueError:
        return urlsplit("")
    return parts


def address_of(url: str | None) -> str | None:
    """An address without what may be a credential: a user, a key in the query.

    >>> address_of("https://me:pw@llm.example:8080/run-7/v1/messages?beta=true&key=abc")
    'https://llm.example:8080/run-7/v1/messages?beta=true'
    """
    parts = _parts_of(url)
    port = f":{parts.port}" if parts.port else ""
    host = f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""
    asked = [
        (key, value) for key, value in parse_qsl(parts.query) if not _may_be_secret(key, value)
    ]
    query = f"?{urlencode(asked)}" if asked else ""
    return f"{host}{parts.path}{query}" or None


def _may_be_secret(key: str, value: str) -> bool:
    is_named_so = is_secret_key(key) or _SECRET_IN_QUERY.search(key) is not None
    return is_named_so or len(value) > _LONGEST_IN_QUERY
