"""AutoGen's messages, those of AgentChat and those of a model context, told as one run.

A model call is complete with its message or its tool calls; a thought and the chunks of a stream come
before that and wait for it. Chunks repeat what comes whole behind them, but for two things: thinking
beside tool calls, which OpenAI's client puts between think tags into the chunks alone, and the text
beside tool calls that Anthropic's client drops where there is thinking.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from loaders.dialects.openai_chat import split_think_tags
from loaders.formats._autogen_state import Item
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

CHAT_MESSAGES = (
    "TextMessage",
    "MultiModalMessage",
    "StopMessage",
    "HandoffMessage",
    "ToolCallSummaryMessage",
    "ToolCallRequestEvent",
    "ToolCallExecutionEvent",
    "CodeGenerationEvent",
    "CodeExecutionEvent",
    "UserInputRequestedEvent",
    "MemoryQueryEvent",
    "ModelClientStreamingChunkEvent",
    "ThoughtEvent",
    "SelectSpeakerEvent",
    "SelectorEvent",
)
"""Types of the messages of AgentChat, beside those of structured ones and of the user's own."""

_BEFORE_A_REPLY = ("ThoughtEvent", "ModelClientStreamingChunkEvent")
_SAID = ("TextMessage", "MultiModalMessage", "UserMessage")
_CODE = "code_executor"
_ANTHROPIC_CALL = "toolu_"
_EITHER = (
    "a thought beside tool calls is told as thinking; it may be the reply's plain text, which this "
    "client puts in the same place"
)


class _Thought(NamedTuple):
    text: str
    pos: str
    at: datetime | None


class _Waiting:
    """What came of a model call whose message is not there yet."""

    def __init__(self) -> None:
        self.chunks: list[Item] = []
        self.thoughts: list[_Thought] = []

    @property
    def streamed(self) -> str:
        """The text of all chunks."""
        return "".join(as_text(as_object(c.message).get("content")) or "" for c in self.chunks)

    def place_of(self, text: str) -> str:
        """The chunk in which a text at the end of the stream begins."""
        left = len(self.streamed) - len(text)
        for chunk in self.chunks:
            left -= len(as_text(as_object(chunk.message).get("content")) or "")
            if left < 0:
                return chunk.pos
        return self.chunks[-1].pos


class Chat:
    """Tells the messages of one run.

    ``replying`` sources known to be models; ``first_seqs`` the first event of each source.
    """

    def __init__(self, run: Run, source: Source) -> None:
        self.run = run
        self.replying: set[str] = set()
        self.first_seqs: dict[str, int] = {}
        self._source = source
        self._people = {"user"}
        self._waiting: dict[str | None, _Waiting] = {}
        self._told: set[str] = set()
        self._metadata: Object = {}
        self._asked: datetime | None = None
        run.set(framework="autogen")

    def has_told(self, item: Item) -> bool:
        """Whether a message of this id was told before."""
        identity = as_text(as_object(item.message).get("id"))
        return identity is not None and identity in self._told

    def tell(self, item: Item) -> None:
        """Tell the next message."""
        message, pos = item
        if not is_object(message):
            self.run.problem(pos, "no message", "error")
            return
        kind, author = as_text(message.get("type")) or "", as_text(message.get("source"))
        at = as_time(message.get("created_at"))
        if isinstance(message.get("id"), str):
            self._told.add(message["id"])
        if message.get("metadata"):
            self._metadata[pos] = message["metadata"]
        start = self.run.seq
        self._tell_kind(kind, message, author, pos, at)
        if author is not None and self.run.seq > start:
            self.first_seqs.setdefault(author, start)
        if kind not in _BEFORE_A_REPLY:
            self._asked = at or self._asked

    def _tell_kind(
        self, kind: str, message: Object, author: str | None, pos: str, at: datetime | None
    ) -> None:
        content, run, place = message.get("content"), self.run, f"{pos}/content"
        if kind == "ModelClientStreamingChunkEvent":
            self._wait(author).chunks.append(Item(message, pos))
        elif kind == "ThoughtEvent":
            self._wait(author).thoughts.append(_Thought(as_text(content) or "", pos, at))
        elif kind in ("AssistantMessage", "ToolCallRequestEvent", "CodeGenerationEvent"):
            if thought := as_text(message.get("thought")):
                self._wait(author).thoughts.append(_Thought(thought, pos, at))
            self._tell_reply(message, author, pos, at)
        elif kind in ("ToolCallExecutionEvent", "FunctionExecutionResultMessage"):
            for index, result in enumerate(as_array(content)):
                self._tell_result(as_object(result), f"{place}/{index}", author, at)
        elif kind == "CodeExecutionEvent":
            result = as_object(message.get("result"))
            output, code = as_text(result.get("output")), as_int(result.get("exit_code"))
            place = f"{pos}/result"
            run.result(
                output, place, tool=_CODE, by_order=True, actor=author, exit_code=code, at=at
            )
        elif kind == "SystemMessage":
            run.system(as_json(content), place)
        elif kind == "MemoryQueryEvent":
            texts = [as_json(as_object(part).get("content")) or "" for part in as_array(content)]
            run.event("system", "\n".join(texts), place, actor="memory", at=at)
        elif self._is_said(kind, message):
            self._tell_said(message, author, pos, at)
        else:
            if kind == "UserInputRequestedEvent" and author:
                self._people.add(author)
            run.event("other", as_json(content) or kind, pos, actor=author, at=at)

    def _wait(self, author: str | None) -> _Waiting:
        return self._waiting.setdefault(author, _Waiting())

    # ------------------------------------------------------------------ what is said

    def _is_said(self, kind: str, message: Object) -> bool:
        """Whether a message is something said; kinds of the user's own are told by their usage."""
        if kind in _SAID or kind.startswith("StructuredMessage"):
            return True
        return kind not in CHAT_MESSAGES and "models_usage" in message

    def _tell_said(
        self, message: Object, author: str | None, pos: str, at: datetime | None
    ) -> None:
        if self._is_reply(message, author):
            self._tell_reply(message, author, pos, at)
            return
        text, media = _text_and_media(message.get("content"))
        actor = None if author == "user" else author
        self.run.user(text, f"{pos}/content", actor=actor, media=media, at=at)

    def _is_reply(self, message: Object, author: str | None) -> bool:
        """Whether a model wrote a message."""
        if message.get("type") == "UserMessage" or author in self._people:
            return False
        is_counted = is_object(message.get("models_usage")) or "models_usage" not in message
        return is_counted or author in self.replying or author in self._waiting

    def _tell_reply(
        self, message: Object, author: str | None, pos: str, at: datetime | None
    ) -> None:
        self._begin_call(author, pos, at, message.get("models_usage"))
        content, place = message.get("content"), f"{pos}/content"
        calls = [as_object(part) for part in as_array(content)]
        if any("arguments" in call for call in calls):
            self._tell_before_calls(author, calls)
            for index, call in enumerate(calls):
                self._tell_call(call, f"{place}/{index}", author, at)
            return
        self._tell_before_text(author)
        text, media = _text_and_media(content)
        self._tell_text(text, place, author, at, media)
        if as_array(message.get("code_blocks")):
            self.run.call(_CODE, message["code_blocks"], f"{pos}/code_blocks", actor=author, at=at)

    def _begin_call(
        self, author: str | None, pos: str, at: datetime | None, usage: Any = None
    ) -> None:
        usage = as_object(usage)
        asked, made = (as_int(usage.get(key)) for key in ("prompt_tokens", "completion_tokens"))
        tokens = {"input_tokens": asked, "output_tokens": made} if asked or made else {}
        started = self._asked if at is None or self._asked is None else min(self._asked, at)
        self.run.step(source_pos=pos, agent=author, started_at=started, ended_at=at, **tokens)

    def _tell_call(self, call: Object, pos: str, author: str | None, at: datetime | None) -> None:
        name, call_id = as_text(call.get("name")), as_text(call.get("id")) or None
        self.run.call(name, call.get("arguments"), pos, call_id=call_id, actor=author, at=at)

    def _tell_text(
        self,
        text: str | None,
        pos: str,
        author: str | None,
        at: datetime | None,
        media: list[str] | None = None,
    ) -> None:
        """Text of a model, think tags apart."""
        for is_thinking, piece in split_think_tags(text or ""):
            if is_thinking:
                self.run.thinking(piece, pos, state="tagged_in_text", actor=author, at=at)
            else:
                self.run.message(piece, pos, actor=author, media=media, at=at)
                media = None
        if media:
            self.run.message(None, pos, actor=author, media=media, at=at)

    # ------------------------------------------------------------------ thoughts and chunks

    def _tell_before_text(self, author: str | None) -> None:
        """The thoughts of a reply that is text: they are thinking, and its chunks repeat all."""
        waiting = self._waiting.pop(author, _Waiting())
        for thought in waiting.thoughts:
            self._tell_thinking(thought, author)

    def _tell_thinking(self, thought: _Thought, author: str | None) -> None:
        self.run.thinking(thought.text, thought.pos, actor=author, at=thought.at)

    def _tell_before_calls(self, author: str | None, calls: list[Object]) -> None:
        """The thoughts of a reply with tool calls, each thinking or text, and what only chunks have."""
        waiting = self._waiting.pop(author, _Waiting())
        streamed, is_shown = waiting.streamed, bool(waiting.chunks)
        in_tags, said = _split(streamed)
        whole = "".join(thought.text for thought in waiting.thoughts)
        is_anthropic = any((as_text(c.get("id")) or "").startswith(_ANTHROPIC_CALL) for c in calls)
        if in_tags and "<think>" not in whole:
            self.run.thinking(in_tags, waiting.chunks[0].pos, actor=author)
            if not whole and said:
                self.run.message(said, waiting.place_of(said), actor=author)
        for thought in waiting.thoughts:
            if in_tags or not is_anthropic or "<think>" in whole:
                self._tell_text(thought.text, thought.pos, author, thought.at)
            else:
                self._tell_thinking(thought, author)
        if is_anthropic and whole and not in_tags:
            rest = streamed.removeprefix(whole) if streamed.startswith(whole) else ""
            if rest.strip():
                self.run.message(rest, waiting.place_of(rest), actor=author)
            else:
                self._source.doubt(waiting.thoughts[0].pos, _EITHER)
        if not is_anthropic and not is_shown and self.run.steps[-1].thinking is None:
            self.run.update_step(thinking="not_logged")

    def _tell_cut_off(self, author: str | None, waiting: _Waiting) -> None:
        """A call whose message never came."""
        pos = waiting.thoughts[0].pos if waiting.thoughts else waiting.chunks[0].pos
        self._begin_call(author, pos, None)
        for thought in waiting.thoughts:
            if "<think>" in thought.text:
                self._tell_text(thought.text, thought.pos, author, thought.at)
            else:
                self._tell_thinking(thought, author)
        if not waiting.thoughts:
            self._tell_text(waiting.streamed, pos, author, None)

    # ------------------------------------------------------------------ results, the end

    def _tell_result(
        self, result: Object, pos: str, author: str | None, at: datetime | None
    ) -> None:
        call_id = as_text(result.get("call_id")) or None
        self.run.result(
            as_json(result.get("content")),
            pos,
            call_id=call_id,
            tool=as_text(result.get("name")) or None,
            by_order=call_id is None,
            is_error=as_bool(result.get("is_error")),
            actor=author,
            at=at,
        )

    def finish(self) -> None:
        """No more messages will come: what still waits is a reply that was cut off."""
        for author, waiting in self._waiting.items():
            self._tell_cut_off(author, waiting)
        if self._metadata:
            known = as_object(self.run.columns["metadata"])
            self.run.set(metadata={**known, "of_messages": self._metadata})


def _split(text: str) -> tuple[str, str]:
    """What stands in think tags, and the rest."""
    pieces = list(split_think_tags(text))
    inside = "".join(piece for is_thinking, piece in pieces if is_thinking)
    outside = "".join(piece for is_thinking, piece in pieces if not is_thinking)
    return inside.strip(), outside.strip()


def _text_and_media(content: Any) -> tuple[str | None, list[str] | None]:
    """The text of a content, and the types of its pictures, which are saved as PNG."""
    if not is_array(content):
        return as_json(content), None
    texts = [part for part in content if isinstance(part, str)]
    pictures = ["image/png" for part in content if is_object(part)]
    return "\n".join(texts) or None, pictures or None
