"""What ``codex exec --json`` prints: threads, turns and items, one event per line.

A call and its result are one item, told when it starts and again when it ends. There is no prompt,
no model and no time. Model calls are not marked: the first item that starts after a tool has ended
is taken to begin one, so that tools that run side by side are of one call. Reasoning is shown as a
summary, and reasoning without one is not shown: its absence says nothing. Usage counts the whole
thread so far; it restarts where the thread is resumed, and is never known for a single call.
"""

from __future__ import annotations

from loaders.builder import Builder
from loaders.dialects.openai_chat import text_and_media
from loaders.errors import UnreadableRecord
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import Object, as_array, as_int, as_json, as_object, as_text, is_object

TITLE = "codex exec --json"
GIVES = ("thinking", "tokens")
IGNORED = {
    "type=reasoning /item/id": "the running number of the item, which its place tells",
    "type=agent_message /item/id": "the running number of the item, which its place tells",
    "type=error /item/id": "the running number of the item, which its place tells",
    "type=item.started /item/status": "whatever starts is in progress, and how it ended is kept",
    "type=item.updated /item/status": "whatever goes on is in progress, and how it ended is kept",
    "type=item.started type=mcp_tool_call /item/result/**": "a call that starts has no result yet",
    "type=mcp_tool_call /item/result/structured_content/**": "the content says the same in words",
}

_ITEM_EVENTS = ("item.started", "item.updated", "item.completed")
_THREADS = {"thread.started": "thread_id", "session.created": "session_id"}
_ARGUMENTS = {
    "command_execution": ("command",),
    "file_change": ("changes",),
    "mcp_tool_call": ("arguments",),
    "web_search": ("query", "action"),
    "todo_list": ("items",),
    "collab_tool_call": ("prompt", "receiver_thread_ids"),
}
_FAILED = {"failed": True, "declined": True, "completed": False}
_TOKENS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "reasoning_output_tokens": "reasoning_tokens",
    "cached_input_tokens": "cached_tokens",
}


def sniff(head: Head) -> bool:
    """The start of a thread, or an item's event."""
    return any(_is_event(as_object(record)) for record in (head.first, *head.records))


def _is_event(record: Object) -> bool:
    kind = as_text(record.get("type")) or ""
    if kind in _ITEM_EVENTS:
        return bool({"type", "item_type"} & as_object(record.get("item")).keys())
    return kind in _THREADS and _THREADS[kind] in record


def read(source: Source, out: Builder) -> None:
    """One run per thread; a thread that is resumed goes on."""
    thread: _Thread | None = None
    for pos, record in source.json_lines():
        with out.record(pos):
            kind = as_text(as_object(record).get("type")) or ""
            name = as_text(as_object(record).get(_THREADS.get(kind, "")))
            if thread is None or (name and thread.name and name != thread.name):
                thread = _Thread(out.trajectory(native_id=name, pos=pos, framework="codex"), name)
            thread.tell(kind, as_object(record), pos)


class _Thread:
    """Tells a thread event by event."""

    def __init__(self, run: Run, name: str | None) -> None:
        self.run = run
        self.name = name
        self.is_open = False
        self.calls: dict[str, int] = {}
        self.before: dict[str, int] = {}  # tokens, up to the last restart
        self.latest: dict[str, int] = {}

    def tell(self, kind: str, event: Object, pos: str) -> None:
        run = self.run
        if kind in _ITEM_EVENTS and is_object(event.get("item")):
            self._tell_item(kind, event["item"], f"{pos}/item")
        elif kind == "turn.completed":
            self._count(as_object(event.get("usage")))
            self._end_turn(None, kind)
        elif kind == "turn.failed":
            text = as_text(as_object(event.get("error")).get("message"))
            run.event("error", text, f"{pos}/error", actor="harness")
            self._end_turn("error", text or kind)
        elif kind == "error":
            run.event("error", as_text(event.get("message")), pos, actor="harness")
        elif kind == "turn.started":
            self._end_turn(None, None)
        elif not kind:
            raise UnreadableRecord("no event: it has no type", pos)
        elif kind not in _THREADS:
            run.event("other", as_json(event), pos, actor=kind)

    def _end_turn(self, outcome: str | None, reason: str | None) -> None:
        self.is_open = False
        self.calls.clear()  # ids restart where a thread is resumed
        self.run.outcome(outcome, end_reason=reason)

    def _count(self, usage: Object) -> None:
        counts = {name: as_int(usage.get(key)) for key, name in _TOKENS.items()}
        known = {name: count for name, count in counts.items() if count is not None}
        if known.get("input_tokens", 0) < self.latest.get("input_tokens", 0):
            self.before = {
                name: self.before.get(name, 0) + self.latest.get(name, 0)
                for name in _TOKENS.values()
            }
        self.latest = known or self.latest
        self.run.set(**{name: count + self.before.get(name, 0) for name, count in known.items()})

    # ------------------------------------------------------------------ items

    def _begin_call(self, pos: str) -> None:
        if not self.is_open:
            self.is_open = True
            self.run.step(source_pos=pos, thinking="not_logged")

    def _tell_item(self, event: str, item: Object, pos: str) -> None:
        run = self.run
        kind = as_text(item.get("type")) or as_text(item.get("item_type")) or "unknown"
        text = as_text(item.get("text"))
        if kind in _ARGUMENTS:
            self._tell_tool(event, kind, item, pos)
        elif kind == "error":
            run.event("error", as_text(item.get("message")), pos, actor="harness")
        elif event != "item.completed":
            return  # told when it is whole
        elif kind == "reasoning":
            self._begin_call(pos)
            run.thinking(text, f"{pos}/text", state="summary")
        elif kind in ("agent_message", "assistant_message"):
            self._begin_call(pos)
            run.message(text, f"{pos}/text")
        else:
            run.event("other", as_json(item), pos, actor=kind)

    def _tell_tool(self, event: str, kind: str, item: Object, pos: str) -> None:
        name = as_text(item.get("id")) or pos
        is_new = name not in self.calls or (kind == "todo_list" and event == "item.updated")
        if is_new:
            self._begin_call(pos)
            given = {key: item[key] for key in _ARGUMENTS[kind] if item.get(key) is not None}
            arguments = given.get("arguments", given)
            self.calls[name] = self.run.call(_tool(kind, item), arguments, pos, call_id=name)
        if kind == "todo_list" or event == "item.completed":
            if event == "item.completed" and not is_new and kind == "todo_list":
                return  # at the end of the turn, the last list once more
            text, media, key = _output(kind, item)
            exit_code, is_error = as_int(item.get("exit_code")), _is_error(item)
            self.run.result(
                text,
                f"{pos}/{key}" if key in item else pos,
                answers=self.calls[name],
                call_id=name,
                is_error=is_error,
                exit_code=exit_code,
                media=media,
            )
            self.is_open = False


def _tool(kind: str, item: Object) -> str:
    server, tool = as_text(item.get("server")), as_text(item.get("tool"))
    if kind == "mcp_tool_call" and tool:
        return f"{server}.{tool}" if server else tool
    return tool or kind


def _output(kind: str, item: Object) -> tuple[str | None, list[str] | None, str]:
    if kind == "mcp_tool_call":
        error = as_text(as_object(item.get("error")).get("message"))
        if error:
            return error, None, "error"
        result = as_object(item.get("result"))
        text, media = text_and_media(as_array(result.get("content")))
        if text is None:
            text = as_json(result.get("structured_content"))
        return text, media, "result"
    if kind == "collab_tool_call":
        return as_json(item.get("agents_states")), None, "agents_states"
    return as_text(item.get("aggregated_output")), None, "aggregated_output"


def _is_error(item: Object) -> bool | None:
    return _FAILED.get(as_text(item.get("status")) or "")
