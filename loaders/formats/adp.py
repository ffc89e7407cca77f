"""Agent Data Protocol (ADP): rows of a data set, each a list of actions and observations.

Actions (``api_action``, ``code_action``, ``message_action``) with no observation between them count
as one model call, as the rows don't show the replies that they were made from. A ``description`` is
the agent's reasoning, and told as thinking; where there is ``reasoning_content`` besides, that is
the thinking and the description a message.

Since 1.3.1 ``tool_call_id`` links results to calls. Before that a result is the observation right
behind a call, even where its ``source`` says ``user``; further ones of the environment answer the
calls that still wait. Other observations are user turns, or events of the environment.
"""

from __future__ import annotations

from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import tool_definitions
from loaders.dialects.text_tools import declared_tools
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.rows import identity_of, metadata_of, outcome_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
)

TITLE = "Agent Data Protocol"
GIVES = ("thinking", "tools", "outcome")

_ACTIONS = ("api_action", "code_action", "message_action")
_TEXT_IN = ("content", "axtree", "html")


def sniff(head: Head) -> bool:
    """A row whose content is a list of items with a class."""
    return "class_" in as_object(next(iter(as_array(head.first.get("content"))), None))


def splits(source: Source) -> bool:
    """A row on each line."""
    return source.is_json_lines


def read(source: Source, out: Builder) -> None:
    """One run per row."""
    for pos, row in source.records():
        with out.record(pos):
            _read_row(as_object(row), pos, out)


def _read_row(row: Object, pos: str, out: Builder) -> None:
    if not is_array(row.get("content")):
        out.problem(pos, "a row without content")
        return
    details = as_object(row.get("details"))
    run = out.trajectory(
        pos=pos,
        format_version=as_text(row.get("schema_version")),
        **{**identity_of(details), "native_id": as_name(row.get("id"))},
        metadata=metadata_of(details, ("model", "model_name")),
    )
    names = [as_text(name) for name in as_array(row.get("available_custom_tools"))]
    if names:
        run.tools((name, None, None) for name in names)
    trajectory = _Trajectory(run)
    for index, item in enumerate(row["content"]):
        trajectory.tell(item, f"{pos}/content/{index}")
    known = outcome_of(details)
    if any(known.values()):
        run.outcome(**known)


class _Trajectory:
    """Tells the items of a run. ``waiting``: calls without id that no observation has answered."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting = 0
        self._is_acting = False

    def tell(self, item: Any, pos: str) -> None:
        """Tell the next item."""
        if not is_object(item):
            self._run.problem(pos, "neither an action nor an observation")
        elif item.get("class_") in _ACTIONS:
            if not self._is_acting:
                self._run.step(source_pos=pos)
                self._waiting = 0
            self._is_acting = True
            self._tell_action(item, pos)
        else:
            self._tell_observation(item, pos)
            self._is_acting = False

    def _tell_action(self, item: Object, pos: str) -> None:
        thought = as_text(item.get("reasoning_content"))
        description = as_text(item.get("description"))
        if thought:
            self._run.thinking(thought, f"{pos}/reasoning_content")
        if description and thought:
            self._run.message(description, f"{pos}/description")
        elif description:
            self._run.thinking(description, f"{pos}/description")
        kind, call_id = item.get("class_"), as_name(item.get("tool_call_id"))
        if kind == "message_action":
            self._run.message(as_text(item.get("content")), f"{pos}/content")
            return
        if kind == "api_action":
            self._run.call(as_text(item.get("function")), item.get("kwargs"), pos, call_id=call_id)
        else:
            language = as_text(item.get("language"))
            arguments = {"language": language, "code": item.get("content")}
            self._run.call(language, arguments, pos, call_id=call_id)
        self._waiting += call_id is None

    def _tell_observation(self, item: Object, pos: str) -> None:
        key = next((key for key in _TEXT_IN if item.get(key) is not None), None)
        text = None if key is None else as_json(item[key])
        place = pos if key is None else f"{pos}/{key}"
        media: list[str] | None = None
        if item.get("class_") == "image_observation":
            text, media = None, ["image"]
        elif item.get("image_observation"):
            media = ["image"]
        source, name = as_text(item.get("source")), as_text(item.get("name"))
        call_id = as_name(item.get("tool_call_id"))
        answers = self._waiting and (self._is_acting or source not in ("user", "agent"))
        if call_id is not None:
            self._run.result(text, place, call_id=call_id, media=media)
        elif name == "system":
            self._tell_system(text, place)
        elif answers:
            self._run.result(text, place, by_order=True, media=media)
            self._waiting -= 1
        elif source == "user":
            self._run.user(text, place, actor=name, media=media)
        else:
            self._run.event("other", text, place, actor=name or source, media=media)

    def _tell_system(self, text: str | None, place: str) -> None:
        self._run.system(text, place)
        try:
            tools = declared_tools(text)
        except UnreadableRecord as error:
            self._run.problem(place, f"declared tools: {error.reason}")
            return
        if tools:
            self._run.tools(tool_definitions(tools))
