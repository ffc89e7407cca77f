"""A span of a trace, as far as it matters to what its agent did."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loaders.dialects.span_said import Message


@dataclass
class Span:
    """A span of a trace, as far as it matters.

    ``kind`` is model, tool, agent or other; ``error`` what the span says went wrong, empty where it
    gives no words; ``is_ok`` where it says that nothing did; ``is_piece`` where the beginning and the
    end of a call are spans of their own, as BeeAI writes them; ``is_raw`` where the
    request's raw body was read, which holds thinking also where the messages leave it out;
    ``omits_nothing`` where ``request`` is word for word what the provider's client was given, so that thinking that it lacks was not sent;
    ``rest`` what else it says, for the run's metadata; ``dropped`` how many attributes its exporter
    left out, so that ``request`` may lack messages. Kind ``aside``: a search, a guardrail or the
    like, told by what it put out.
    """

    trace: str
    id: str
    parent: str | None
    kind: str
    pos: str
    name: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    request: list[Message] | None = None
    reply: list[Message] = field(default_factory=list[Message])
    tools: list[Any] = field(default_factory=list[Any])
    columns: dict[str, Any] = field(default_factory=dict[str, Any])
    provider: str | None = None
    cost_usd: float | None = None
    params: Any = None
    error: str | None = None
    error_type: str | None = None
    is_ok: bool = False
    is_piece: bool = False
    is_raw: bool = False
    omits_nothing: bool = False
    call_id: str | None = None
    arguments: Any = None
    output: str | None = None
    output_pos: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    rest: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    dropped: int = 0
    aside: str | None = None
