"""A whole run as rows of only the columns that it has, for readers that tell it without help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

EVENT_ROW: Final = (
    "run",
    "seq",
    "step",
    "kind",
    "actor",
    "text",
    "thinking_state",
    "tool",
    "call_id",
    "call_seq",
    "arguments",
    "source_pos",
)
STEP_ROW: Final = (
    "run",
    "step",
    "seq",
    "thinking",
    "thinking_chars",
    "thinking_available",
    "source_pos",
    "toolset",
    "evidence",
)


@dataclass
class Rows:
    """A whole run as rows, told at once by a reader that needs no help with numbers and links.

    ``events`` as in ``EVENT_ROW``; ``steps`` as in ``STEP_ROW``, but for the run's number before and
    the tools and evidence behind, and with null as the state of a step without thinking. All values
    are of the schema's types. ``answered``: the ``seq`` of the calls that have a response;
    ``responses``: what identifies those.
    """

    events: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    steps: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    answered: set[int] = field(default_factory=set[int])
    calls: int = 0
    orphans: int = 0
    responses: list[str] = field(default_factory=list[str])
    system: str | None = None
    user: str | None = None
