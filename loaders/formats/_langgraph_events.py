"""Events of a graph (``astream_events``): what its models were asked, and what came back."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

from loaders.builder import Builder
from loaders.dialects import langchain as messages_of
from loaders.dialects.requests import RepeatedMessages
from loaders.formats._langgraph_messages import Conversation, Found, messages_in
from loaders.rows import metadata_of
from loaders.values import Object, as_array, as_name, as_object, as_text, is_array


class Events:
    """Tells the events of one run of a graph: what its models were asked, and what came back."""

    def __init__(self, out: Builder, name: str, events: list[Found]) -> None:
        self._events = events
        metadata = as_object(events[0][0].get("metadata"))
        self._root = name
        self._run = out.trajectory(
            native_id=name or None,
            pos=events[0][1],
            framework="langgraph",
            metadata=metadata_of({**metadata, "name": events[0][0].get("name")}, ()),
        )
        self._conversation = Conversation(self._run)
        self._repeated = RepeatedMessages(
            self._run, messages_of.key_of, messages_of.thoughts_of, self._tell_sent
        )
        self._asked: dict[str, Found] = {}
        self._pieces: dict[str, list[Found]] = defaultdict(list)
        self._failed: dict[str | None, Found] = {}

    def tell(self) -> None:
        for event, pos in self._events:
            kind = as_text(event.get("event")) or ""
            data, name = as_object(event.get("data")), as_name(event.get("run_id")) or ""
            if kind in ("on_chat_model_start", "on_llm_start"):
                self._asked[name] = (event, pos)
            elif kind in ("on_chat_model_end", "on_llm_end"):
                self._tell_call(self._asked.pop(name, (event, pos)), [(event, pos)])
                self._pieces.pop(name, None)
            elif kind in ("on_chat_model_stream", "on_llm_stream"):
                self._pieces[name].append((event, pos))
            elif kind == "on_tool_end":
                self._repeated.take([*messages_in(data.get("output"), f"{pos}/data/output")])
            elif kind == "on_tool_error":
                self._failed[as_name(data.get("tool_call_id"))] = (event, pos)
            elif kind == "on_chain_end" and name == self._root:
                self._repeated.take([*messages_in(data.get("output"), f"{pos}/data/output")])
        for name, started in self._asked.items():
            self._tell_call(started, self._pieces[name])
        for call_id, (event, pos) in self._failed.items():
            error = as_text(as_object(event.get("data")).get("error"))
            more: dict[str, Any] = {
                "is_error": True,
                "error_type": (error or "").split("(")[0][:80],
            }
            tool = as_text(event.get("name"))
            self._run.result(error, f"{pos}/data/error", call_id=call_id, tool=tool, **more)
            self._run.outcome("error", end_reason=error)

    def _tell_sent(self, message: Object, pos: str) -> None:
        """Tell a message that was not told before; a failed tool's is flagged."""
        failed = self._failed.pop(as_name(message.get("tool_call_id")), None)
        if message["role"] == "assistant" or failed is None:
            self._conversation.tell(message, pos)
            return
        error = as_text(as_object(failed[0].get("data")).get("error")) or ""
        flags = {"is_error": True, "error_type": error.split("(")[0][:80]}
        messages_of.write_message(self._run, message, pos, **flags)

    def _tell_call(self, started: Found, ended: list[Found]) -> None:
        """A call of a model: its request, its reply, or the pieces of one that was cut short."""
        event, pos = started
        given = as_object(as_object(event.get("data")).get("input")).get("messages")
        place = f"{pos}/data/input/messages"
        if is_array(given) and given and is_array(given[0]):
            given, place = given[0], f"{place}/0"
        asked = [*messages_in(as_array(given), place)]
        shown = self._repeated.take(asked)
        metadata = as_object(event.get("metadata"))
        agent = as_text(metadata.get("lc_agent_name")) or as_text(metadata.get("langgraph_node"))
        key = "output" if (as_text(ended[0][0].get("event")) or "").endswith("_end") else "chunk"
        found = [
            one
            for end, at in ended
            for one in messages_in(as_object(end.get("data")).get(key), f"{at}/data/{key}")
        ]
        columns = messages_of.step_columns(found[-1][0]) if found else {}
        columns["model"] = columns.get("model") or as_text(metadata.get("ls_model_name"))
        self._run.step(source_pos=pos, agent=agent, **columns)
        if asked:
            request = [message for message, _ in asked]
            is_sure = all(map(messages_of.shows_thinking_for_certain, request))
            self._repeated.saw(shown, request, agent, is_sure)
        self._run.set(
            provider=self._run.columns["provider"] or as_text(metadata.get("ls_provider"))
        )
        for message, at in found:
            write = partial(messages_of.write_reply, self._run, message, at)
            self._repeated.reply(message, agent, write)
        if not found or key == "chunk":
            self._run.problem(pos, "a call of a model without its whole reply")
