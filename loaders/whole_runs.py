"""Rows of only the columns that they have, for readers that tell without help: of a run, of many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from loaders.steps import Step

if TYPE_CHECKING:
    import polars as pl

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

    ``events`` as in ``EVENT_ROW`` and ``steps`` as in ``STEP_ROW``, but for the run's number before, and
    for the tools and evidence behind; with null as the state of a step without thinking. All values
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


class Gathered(Protocol):
    """Rows of events of any number of runs, which a reader puts into columns of its own.

    A frame for each of many small runs would take longer than to read them.
    """

    @property
    def count(self) -> int:
        """How many rows are held."""
        ...

    def turn(self) -> None:
        """The run that rows were told of ends: tell it what it has to know of them."""
        ...

    def frames(self) -> list[pl.DataFrame]:
        """All of them, each frame with the columns that its rows have, by run and ``seq``."""
        ...

    def clear(self) -> None:
        """Let go of all rows."""
        ...


@dataclass
class WholeRun:
    """A whole run told at once, of whose events some or all are gathered elsewhere.

    ``count`` of all of them; ``events`` of those that are here, with all columns of the schema but
    ``trajectory_id``; ``thinking`` the ``seq`` of those that are thinking; ``unanswered`` how many calls of tools have no response; ``responses`` what identifies
    these.
    """

    count: int = 0
    events: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    steps: list[Step] = field(default_factory=list[Step])
    thinking: list[int] = field(default_factory=list[int])
    unanswered: int = 0
    responses: list[str] = field(default_factory=list[str])
    system: str | None = None
    user: str | None = None
