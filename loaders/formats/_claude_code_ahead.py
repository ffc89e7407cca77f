"""A first look at a long Claude Code log: what its later lines change in what earlier ones tell.

With it, each line can be told as soon as all is read that belongs to it, and no more is kept of a log
than the few lines that wait for others.
"""

from __future__ import annotations

from collections.abc import Hashable
from copy import copy

import polars as pl

from loaders.formats._claude_code_agents import THINKING_CUTS, apart, called_in, is_notice
from loaders.formats._claude_code_lines import Line, Message
from loaders.formats._claude_code_reading import lines
from loaders.sources import Source
from loaders.values import as_array, as_object

_ROWS_AT_ONCE = 4_096


class Ahead:
    """What is known of a log before it is told.

    ``session``, ``agent_id`` as the last line has them that has any, of those outside of ``others``: the
    subagents inside, with all their lines. ``last_lines``: by the number of a call's first line that of
    its last, where these stand as far apart as ``far``. ``repeated``: hashes of the ids that several
    calls or results have. ``changes_steps``: whether later lines may say something of earlier calls.
    ``bytes_read`` from the beginning.
    """

    def __init__(self, source: Source, has_subagents: bool, far: int) -> None:
        self.session: str | None = None
        self.agent_id: str | None = None
        self.changes_steps = False
        self._replies, self._calls = _Places(), _Places()
        self._results, self._answers = _Places(), _Places()
        inside: list[Line] = []
        ahead = copy(source)
        ahead.take_problems()  # this is the copy's own list from here on
        for line in lines(ahead):
            if line.is_sidechain and has_subagents:
                inside.append(line)
            elif line.message is not None and line.type in ("assistant", "user"):
                self.session = line.session_id or self.session
                self.agent_id = line.agent_id or self.agent_id
                self._find_names(line, line.message)
            elif line.attachment is not None and line.attachment.type in THINKING_CUTS:
                self.changes_steps = True
        self.bytes_read = ahead.bytes_told
        self.others = [agent for agent in apart(inside) if agent.begins_at]
        replies, calls = self._replies.table(), self._calls.table()
        far_apart = replies.filter(replies["last"] - replies["first"] >= far)
        self.last_lines = dict(far_apart.select("first", "last").iter_rows())
        self._early = _before(self._results.table(), calls)
        named = pl.concat([calls, self._answers.table()])
        self.repeated = set(named["name"].filter(named["is_repeated"]))

    def _find_names(self, line: Line, message: Message) -> None:
        number = line.number
        blocks = message.content if isinstance(message.content, list) else ()
        for block in blocks:
            if block.tool_use_id is not None:
                self._answers.add(block.tool_use_id, number)
        if line.data is not None:  # what is not as declared may yet name a call
            for raw in as_array(as_object(line.record.get("message")).get("content")):
                for name in (as_object(raw).get("tool_use_id"), as_object(raw).get("id")):
                    if isinstance(name, str):
                        self._answers.add(name, number)
                        self._answers.add(name, number)
        if line.type == "user":
            if blocks and blocks[0].tool_use_id is not None:
                self._results.add(blocks[0].tool_use_id, number)
            return
        for call_id in called_in(line, message):
            self._calls.add(call_id, number)
        if message.id is not None and (line.plain is not None or not is_notice(line)):
            self._replies.add((message.id, message.model), number)

    def comes_later(self, call_id: str) -> bool:
        """Whether the call of that id stands behind its first result."""
        return hash(call_id) in self._early


class _Places:
    """The lines in which names stand, of which only hashes are kept."""

    def __init__(self) -> None:
        self._names: list[int] = []
        self._lines: list[int] = []
        self._tables: list[pl.DataFrame] = []

    def add(self, name: Hashable, line: int) -> None:
        self._names.append(hash(name))
        self._lines.append(line)
        if len(self._names) == _ROWS_AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        columns = {"name": self._names, "line": self._lines}
        self._tables.append(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Int64)))
        self._names.clear()
        self._lines.clear()

    def table(self) -> pl.DataFrame:
        """The first and the last line of each name, by name, and whether it is there more than once.

        By sorting, for to group them takes three times the memory.
        """
        self._pack()
        rows = pl.concat(self._tables).sort("name", maintain_order=True)
        names, lines = rows["name"], rows["line"]
        is_first, is_last = names.ne_missing(names.shift(1)), names.ne_missing(names.shift(-1))
        return pl.DataFrame(
            {
                "name": names.filter(is_first),
                "first": lines.filter(is_first),
                "last": lines.filter(is_last),
                "is_repeated": ~is_last.filter(is_first),
            }
        )


def _before(some: pl.DataFrame, others: pl.DataFrame) -> set[int]:
    """The names of both tables that stand first in ``some``."""
    both = pl.concat([some, others]).sort("name", maintain_order=True)
    is_in_both = both["name"].eq_missing(both["name"].shift(-1))
    return set(both["name"].filter(is_in_both & (both["first"] < both["first"].shift(-1))))
