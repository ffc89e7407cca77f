"""Subagents of a Copilot session, and what a session's end says of its models."""

from __future__ import annotations

from loaders.values import Object, as_int, as_object, as_text, total

Kept = list[tuple[str, Object]]


class Agents:
    """The events of subagents, kept until their session is told."""

    def __init__(self) -> None:
        self.events: dict[str, Kept] = {}
        self.calls: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def take(self, event: Object, pos: str) -> bool:
        """Keep an event if it is a subagent's."""
        data, agent = as_object(event.get("data")), as_text(event.get("agentId"))
        call = as_text(data.get("parentToolCallId"))
        kind = as_text(event.get("type")) or ""
        if kind.startswith("subagent."):
            call = as_text(data.get("toolCallId"))
        known = (self._names.get(word) for word in (call, agent) if word is not None)
        name = next(filter(None, known), agent or call)
        if name is None:
            return False
        if agent is not None:
            self._names.setdefault(agent, name)
        if call is not None:
            self._names.setdefault(call, name)
            self.calls.setdefault(name, call)
        self.events.setdefault(name, []).append((pos, event))
        return True


def model_of(events: Kept) -> str | None:
    """The model of a subagent, where its end or its results name one."""
    named = (as_text(as_object(event.get("data")).get("model")) for _, event in events)
    return next(filter(None, named), None)


def sums_of(end: Object) -> dict[str, int | None]:
    """Token columns of a session from the measures of its models."""
    used = [
        as_object(as_object(metric).get("usage"))
        for metric in as_object(end.get("modelMetrics")).values()
    ]
    columns = {
        "input_tokens": "inputTokens",
        "output_tokens": "outputTokens",
        "cached_tokens": "cacheReadTokens",
        "reasoning_tokens": "reasoningTokens",
    }
    return {
        name: found
        for name, key in columns.items()
        if (found := total(*(as_int(usage.get(key)) for usage in used))) is not None
    }
