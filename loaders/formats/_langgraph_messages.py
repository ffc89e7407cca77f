"""The messages of LangGraph's states and updates, and a conversation that tells each of them once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from loaders.dialects import langchain as messages_of
from loaders.dialects.langchain import unpacked
from loaders.run import Run
from loaders.values import Object, as_name, as_object, as_text, as_time, is_array, is_object

Found = tuple[Object, str]
"""A message and its place."""


def messages_in(values: Any, pos: str) -> Iterator[Found]:
    """The messages of a state or of an update to one, wherever it keeps them, with their places."""
    found = unpacked(values)
    if found is not None:
        yield found[0], f"{pos}{found[1]}"
        return
    if is_array(values):  # a state that is a list of messages, or commands
        for index, item in enumerate(values):
            is_command = is_object(item) and "update" in item
            if is_command:
                yield from messages_in(item["update"], f"{pos}/{index}/update")
            elif is_object(item):  # no lists in lists: their depth is not this log's to set
                yield from messages_in(item, f"{pos}/{index}")
        return
    for key, value in as_object(values).items():
        place = f"{pos}/{key.replace('~', '~0').replace('/', '~1')}"
        listed = [(value, place)]
        if is_array(value):
            listed = [(item, f"{place}/{index}") for index, item in enumerate(value)]
        for item, at in listed:
            found = unpacked(item)
            if found is not None:
                yield found[0], at + found[1]


class Conversation:
    """The messages of a run, each told once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.at: datetime | None = None
        self._told: set[Any] = set()
        self._last: set[Any] = set()

    def state(self, messages: list[Found], pos: str, is_branch: bool = False) -> None:
        """The state holds these now: tell that others are gone, and those that are new."""
        here: dict[Any, Found] = {}
        seen: dict[Any, int] = defaultdict(int)
        for message, place in messages:
            key = _identity(message)
            here[key, seen[key]] = (message, place)
            seen[key] += 1
        if is_branch:
            self.run.event("other", None, pos, actor="branch", at=self.at)
        elif self._last - here.keys():
            self.run.event("compaction", None, pos, at=self.at)
        for key, (message, place) in here.items():
            if key not in self._told:
                self.tell(message, place)
        self._told |= here.keys()
        self._last = set(here)

    def update(self, messages: list[Found]) -> None:
        """A node gave these."""
        for message, place in messages:
            key = (_identity(message), 0)
            if key not in self._told or message.get("id") is None:
                self.tell(message, place)
            self._told.add(key)
            self._last.add(key)

    def tell(self, message: Object, pos: str) -> None:
        """Tell a message; a model's is a call of it."""
        if message["role"] == "assistant":
            columns = messages_of.step_columns(message)
            agent = as_text(message.get("name"))
            details = as_object(message.get("response_metadata"))
            began = as_time(details.get("created_at"))
            self.run.step(
                source_pos=pos, agent=agent, started_at=began, ended_at=self.at, **columns
            )
            provider = as_text(details.get("model_provider"))
            self.run.set(provider=self.run.columns["provider"] or provider)
            messages_of.write_reply(self.run, message, pos)
        elif message["role"] != "remove":  # the state after it lacks what it names
            messages_of.write_message(self.run, message, pos)


def _identity(message: Object) -> Any:
    """A message that was changed keeps its id: both are told."""
    return as_name(message.get("id")), messages_of.key_of(message)
