"""Conversations rebuilt from recorded model calls: which requests go on from which replies.

A recording holds requests and responses, each request with its whole history, and often those of
several runs among each other. A request belongs to a run if it repeats one of the run's replies, or
adds to the run's latest request, or tries it again after an error; any other one begins a run. What
a request says for the first time becomes events, once; what it repeats, leaves out or shortens says
what the model was shown, and that is evidence of the best grade: the wire itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from loaders.bodies import is_event_stream
from loaders.builder import Builder
from loaders.conversations import (
    Call,
    Conversation,
    Recorded,
    Response,
    offer_of,
    visible_text,
)
from loaders.dialects.wire import Turn, Wire, squeezed
from loaders.teller import Teller
from loaders.values import (
    Object,
    as_json,
    as_object,
    as_text,
    fingerprint,
    is_array,
    is_object,
)

_MARK_CHARS = 80
_SUMMARY_CHARS = 200
_SUMMARY_CALLS = 3
_ERROR_CHARS = 2_000


class CallReader:
    """Takes the recorded calls of one API, one by one, and at the end tells the runs behind them.

    Calls of one run must come in the order in which they were answered. Of each request only what
    is new in it is kept.
    """

    def __init__(self, wire: Wire, out: Builder) -> None:
        self._wire = wire
        self._out = out
        self._grouping = _Grouping(wire)

    def add(self, call: Recorded) -> None:
        """The next call; one that can't be understood is a problem and the next one is read."""
        with self._out.record(call.request_pos or call.response_pos):
            self._grouping.add(call, _response(call, self._wire, self._out))

    def tell(self) -> None:
        """Tell the runs, in the order of their first requests."""
        for conversation in sorted(self._grouping.conversations, key=_first_request):
            Teller(conversation, self._out).tell()


def _first_request(conversation: Conversation) -> int:
    return min(call.recorded.order for call in conversation.calls)


def _response(call: Recorded, wire: Wire, out: Builder) -> Response:
    """What came back; what is wrong with it becomes a problem of the recording."""
    body = call.response
    if is_array(body) or (isinstance(body, str) and is_event_stream(body)):
        body, doubt = wire.streamed(body)
        if doubt is not None:
            out.problem(call.response_pos, doubt, "warning")
    error, error_type = _error_of(body, call.status)
    body = as_object(body)
    replies = wire.replies(body)
    if error is None and not replies:
        reason = "no response was recorded" if call.response is None else "no reply in the response"
        out.problem(call.response_pos or call.request_pos, reason, "warning")
    if len(replies) > 1:
        reason = (
            f"{len(replies)} replies to one request; the one that the client went on with is told"
        )
        out.problem(call.response_pos, reason, "warning")
    return Response(body, replies, error, error_type)


def _error_of(body: Any, status: int | None) -> tuple[str | None, str | None]:
    """What went wrong, in the words of the API, and its type."""
    error = as_object(body).get("error")
    is_failure = status is not None and status >= 400
    if not error and not is_failure:
        return None, None
    details = error if is_object(error) else {}
    text = as_text(details.get("message")) or as_text(error)
    text = text or as_text(as_object(body).get("message"))
    if text is None:
        text = body[:_ERROR_CHARS] if isinstance(body, str) else as_json(body)
    kinds = (as_text(details.get(key)) for key in ("type", "code", "status"))
    kind = next(filter(None, kinds), None)
    return text or f"HTTP {status}", kind or (f"HTTP {status}" if is_failure else None)


# ---------------------------------------------------------------------- which run a call belongs to


class _Known(NamedTuple):
    conversation: Conversation
    call: int
    choice: int


class _Held(NamedTuple):
    conversation: Conversation
    call: int
    chain: str


class _Grouping:
    """Sorts calls into conversations, by the histories that their requests repeat."""

    def __init__(self, wire: Wire) -> None:
        self.conversations: list[Conversation] = []
        self._wire = wire
        self._after_reply: dict[str, _Known] = {}
        self._after_request: dict[str, _Known] = {}
        self._with_cause: dict[str, Conversation] = {}
        self._by_mark: dict[str, Conversation] = {}
        self._held: dict[str, _Held] = {}
        self._held_items: dict[str, Object] = {}
        self._latest: Conversation | None = None

    def add(self, recorded: Recorded, response: Response) -> None:
        request = self._wire.with_items(recorded.request, self._held_items)
        recorded = recorded._replace(request=request)
        turns = self._wire.turns(request)
        keys = [self._wire.key(turn) for turn in turns]
        resumed = self._wire.resumed(request)
        earlier = self._held.get(resumed) if resumed else None
        chains = _chains(keys, earlier.chain if earlier else "")
        if earlier is not None:
            conversation = earlier.conversation
        else:
            conversation = None if resumed else self._find(recorded, turns, keys, chains)
        if conversation is None:
            conversation = Conversation(self._wire)
            self.conversations.append(conversation)
        held = conversation.calls[earlier.call] if earlier else None
        call = conversation.add(recorded, response, turns, keys, held)
        is_given = bool(turns) or request.get("messages") is not None
        call.is_whole = held.is_whole if held else is_given and resumed is None
        self._register(conversation, call, keys, chains)
        self._latest = conversation

    def _find(
        self, recorded: Recorded, turns: list[Turn], keys: list[str], chains: list[str]
    ) -> Conversation | None:
        for stop in range(len(turns), 0, -1):
            if turns[stop - 1].is_reply and (known := self._repeated(turns, chains, stop)):
                found = known.conversation
                found.choose(found.calls[known.call], known.choice, keys[stop - 1])
                return found
            known = self._after_request.get(chains[stop])
            if known and _goes_on(known, turns, stop):
                return known.conversation
        if (found := self._with_same_end(turns, keys)) is not None:
            return found
        if (latest := self._latest) and self._is_summarised(latest, recorded.request, turns):
            latest.compact()
            return latest
        return None

    def _repeated(self, turns: list[Turn], chains: list[str], stop: int) -> _Known | None:
        """The call whose reply ends this beginning of a history: of equal ones, with equal thinking."""
        with_thinking = fingerprint(chains[stop], self._thinking(turns[stop - 1].message))
        return self._after_reply.get(with_thinking) or self._after_reply.get(chains[stop])

    def _thinking(self, message: Object) -> str:
        thoughts = self._wire.thoughts(message)
        return "thinking\0" + "\0".join(squeezed(text) or sign or "" for text, sign in thoughts)

    def _with_same_end(self, turns: list[Turn], keys: list[str]) -> Conversation | None:
        """Where the beginning was cut off or changed: the run that knows the last reply.

        Known with what it replied to, or else by something in it that does not occur twice.
        """
        last = next((i for i in range(len(turns) - 1, -1, -1) if turns[i].is_reply), None)
        if last is None:
            return None
        cause = keys[last - 1] if last else ""
        mark = self._mark(turns[last].message, keys[last])
        found = self._with_cause.get(fingerprint(cause, keys[last])) if last else None
        return found or (self._by_mark.get(mark) if mark else None)

    def _mark(self, message: Object, key: str) -> str | None:
        """What tells a reply from others that say the same: ids of its calls, or its length."""
        ids = self._wire.call_ids(message)
        is_long = len(squeezed(visible_text(message))) >= _MARK_CHARS
        return fingerprint(key, *ids) if ids or is_long else None

    def _is_summarised(self, latest: Conversation, request: Object, turns: list[Turn]) -> bool:
        """Whether the client compacted: the reply before this call is now part of its first turn.

        Agents also hand on each other's replies, so it must be the same agent that asks: one with
        the same system prompt and tools, after several calls, and the reply must be of some length.
        """
        replies = latest.calls[-1].response.replies
        if len(latest.calls) < _SUMMARY_CALLS or not replies or not turns:
            return False
        if any(turn.is_reply for turn in turns):
            return False
        system = {self._wire.key(turn) for turn in self._wire.system(request)}
        if not system or not system <= latest.systems.keys():
            return False
        if latest.offer is None or offer_of(self._wire.tools(request)) != latest.offer:
            return False
        reply = visible_text(replies[0].message)
        return len(reply) >= _SUMMARY_CHARS and reply in visible_text(turns[0].message)

    def _register(
        self, conversation: Conversation, call: Call, keys: list[str], chains: list[str]
    ) -> None:
        number = len(conversation.calls) - 1
        self._after_request[chains[-1]] = _Known(conversation, number, 0)
        names, items = self._wire.held(call.response.body)
        self._held_items.update(items)
        if not conversation.is_answer(call):
            return
        for choice, reply in reversed(list(enumerate(call.response.replies))):
            known = _Known(conversation, number, choice)
            key = self._wire.key(Turn(reply.message, "", is_reply=True))
            chain = fingerprint(chains[-1], key)
            self._held.update(dict.fromkeys(names, _Held(conversation, number, chain)))
            self._after_reply[chain] = known
            self._after_reply[fingerprint(chain, self._thinking(reply.message))] = known
            if keys:
                self._with_cause[fingerprint(keys[-1], key)] = conversation
            if mark := self._mark(reply.message, key):
                self._by_mark[mark] = conversation


def _goes_on(known: _Known, turns: list[Turn], stop: int) -> bool:
    """Whether a request that begins with an earlier request goes on from it."""
    conversation = known.conversation
    earlier = conversation.calls[known.call]
    is_latest = known.call == len(conversation.calls) - 1
    if stop == len(turns):  # the same request again
        return is_latest and not conversation.is_answer(earlier)
    return turns[stop].is_reply or is_latest


def _chains(keys: list[str], first: str = "") -> list[str]:
    """A name for each beginning of a history, after what the API holds of it."""
    chains = [first]
    for key in keys:
        chains.append(fingerprint(chains[-1], key))
    return chains
