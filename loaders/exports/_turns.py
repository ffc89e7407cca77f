"""The events of a run as formats of messages have them: replies of the model, and what is between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from loaders.exports._report import Losses
from loaders.exports._runs import OneRun, decoded
from loaders.values import Object, is_object

_EMITTED = ("thinking", "message", "tool_call")
_IN_OTHER = "no message: kept in other_events"


@dataclass
class Reply:
    """What one model call emitted, in order; without ``step`` what the log ascribes to no call."""

    step: Object | None
    events: list[Object] = field(default_factory=list[Any])

    def of(self, kind: str) -> list[Object]:
        """Its events of one kind."""
        return [event for event in self.events if event["kind"] == kind]


def turns(run: OneRun) -> list[Reply | Object]:
    """Replies and, between them, each other event (results included), in order.

    A reply stands where its model call begins, and holds all that this call emitted.
    """
    told: list[Reply | Object] = []
    replies: dict[int, Reply] = {}
    of_no_call: Reply | None = None
    waiting = iter(run.steps)
    step = next(waiting, None)

    def begin(reply: Reply) -> Reply:
        told.append(reply)
        return reply

    for event in run.events:
        number = event["step"]
        while step is not None and number is not None and step["step"] <= number:
            replies[step["step"]] = begin(Reply(step))
            step = next(waiting, None)
        if event["kind"] not in _EMITTED:
            told.append(event)
            of_no_call = None
        elif number in replies:
            replies[number].events.append(event)
        else:
            of_no_call = of_no_call or begin(Reply(None))
            of_no_call.events.append(event)
    while step is not None:
        begin(Reply(step))
        step = next(waiting, None)
    return told


def note_order(seqs: Iterable[int], losses: Losses) -> None:
    """Count the events that come after one that they preceded in the run."""
    latest = -1
    for seq in seqs:
        if seq < latest:
            losses.add("order", "told after an event that it preceded", {"seq": seq})
        latest = max(latest, seq)


class CallIds:
    """Ids of a run's calls, each its own: what has no id, or one that was given before, gets one."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._given: set[str] = set()
        self._of_call: dict[int, str] = {}

    def of_call(self, call: Object) -> str:
        """The id of a tool call."""
        name = self._unused(call, "call")
        self._of_call[call["seq"]] = name
        return name

    def of_result(self, result: Object) -> str:
        """The id of the call that a result answers; for an orphan one that no call has."""
        answered = self._of_call.get(result["call_seq"])
        return self._unused(result, "orphan") if answered is None else answered

    def _unused(self, event: Object, prefix: str) -> str:
        known: str | None = event["call_id"]
        if known and known not in self._given:
            self._given.add(known)
            return known
        name = f"{known or prefix}-{event['seq']}"
        while name in self._given:
            name += "'"
        self._given.add(name)
        reason = "given: the log has none" if not known else "given: it is another event's, too"
        self._losses.add("events.call_id", reason, event)
        return name


def arguments_of(call: Object, losses: Losses) -> Object:
    """The arguments of a call as an object; anything else becomes one with the key ``input``."""
    value = decoded(call["arguments"])
    if is_object(value):
        return value
    if value is None and call["arguments"] is None:
        losses.add("events.arguments", "not known: told as an empty object", call)
        return {}
    losses.add("events.arguments", "no object: told as one with the key input", call)
    return {"input": value}


def tool_of(call: Object, losses: Losses) -> str:
    """The name of the tool that was called, which formats demand."""
    if not call["tool"]:
        losses.add("events.tool", "not known: told as 'unknown'", call)
    return call["tool"] or "unknown"


def definitions(run: OneRun, losses: Losses) -> list[Object] | None:
    """The tools on offer, as functions in OpenAI's notation; None where the log doesn't say."""
    offer = run.row["toolset"]
    for step in run.steps:
        if step["toolset"] != offer:
            losses.add(
                "steps.toolset", "left out: only the run's first offer of tools is told", step
            )
    if offer is None:
        return None
    return [
        {"type": "function", "function": {k: v for k, v in tool.items() if v is not None}}
        for tool in run.tools
    ]


def kept_labels(run: OneRun, losses: Losses, reason: str) -> Object:
    """The user's own columns, under one key."""
    for name in run.labels:
        losses.add(f"trajectories.{name}", reason)
    return {"labels": run.labels} if run.labels else {}


class Messages:
    """A run while its messages are put together, for targets that are lists of messages.

    A target adds replies, prompts and results in its own shape. Errors, compactions and other events
    are no messages: they are set aside, each with the number of messages before it.
    """

    columns_set_aside: tuple[str, ...] = ()

    def __init__(self, run: OneRun, losses: Losses) -> None:
        self._run = run
        self._losses = losses
        self._ids = CallIds(losses)
        self._messages: list[Object] = []
        self._other: list[Object] = []
        self._seqs: list[int] = []

    def put_together(self) -> None:
        """Tell each turn, and what is lost of the order."""
        for turn in turns(self._run):
            if isinstance(turn, Reply):
                self.add_reply(turn)
            elif turn["kind"] in ("user", "system"):
                self.add_prompt(turn)
            elif turn["kind"] == "tool_result":
                self.add_result(turn)
            else:
                self._set_aside(turn)
        note_order(self._seqs, self._losses)

    def add_reply(self, reply: Reply) -> None:
        """What one model call emitted."""
        raise NotImplementedError

    def add_prompt(self, event: Object) -> None:
        """A turn of the user, or the system prompt."""
        raise NotImplementedError

    def add_result(self, event: Object) -> None:
        """What a tool answered."""
        raise NotImplementedError

    def _set_aside(self, event: Object) -> None:
        kept = {name: event[name] for name in self.columns_set_aside if event[name] is not None}
        self._other.append({"after": len(self._messages), "kind": event["kind"], **kept})
        self._losses.add(f"kind {event['kind']}", _IN_OTHER, event)
