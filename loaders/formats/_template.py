"""How a format is written: a complete one, for a log format that does not exist.

Copy this file to ``loaders/formats/<name>.py`` and it is found; its name is the name of the format.
A format of your own that stays outside works in the same way: ``loaders.load(path, format=module)``,
or, for everyone who installs your package, an entry point in its ``pyproject.toml``::

    [project.entry-points."derail.loaders"]
    chatter = "my_package.chatter"

The imaginary *chatter* log is JSON Lines, a run per file::

    {"chatter": 2, "id": "r1", "task": "t7", "model": "m-1", "tools": [{"name": "ls", "takes": {}}]}
    {"who": "person", "says": "List the files."}
    {"who": "model", "thinks": "ls will do.", "calls": [{"id": "c1", "tool": "ls", "with": {}}],
     "tokens": {"in": 40, "out": 12}, "at": "2026-01-31T10:00:00Z"}
    {"who": "tool", "answers": "c1", "says": "no such folder", "failed": true}
    {"who": "model", "says": "There are none.", "tokens": {"in": 60, "out": 5}}
    {"solved": true, "points": 0.5}

What a format must hold to, and the battery (``tests/battery.py``) checks on every file of it:

* ``sniff`` looks at the head alone, says yes to its own files and no to those of all other formats.
* Input is hostile. Every value goes through ``loaders.values`` (``as_text``, ``as_object``, ...):
  what is of the wrong type reads as missing, and nothing else happens.
* Nothing is lost silently. What can't be read is a problem with its place (``out.record``,
  ``run.problem``), and the rest is read. A log cut short gives all that stands before the cut.
* Nothing is guessed. What the log does not say stays None: no outcome out of words, no error flag out
  of a text, no thinking sent back because some was shown.
* Every event and step says where it stands (``L3/calls/0``), so that ``runs.raw(id, seq)`` finds it.
* Time is linear in the size of the log.

Message shapes that several formats share (OpenAI, Anthropic, ...) are in ``loaders.dialects``.
"""

from __future__ import annotations

from loaders.builder import Builder
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_object,
    as_text,
    as_time,
)

TITLE = "Chatter log (an example)"
# What such logs can hold, out of loaders.registry.GIVES; shown by loaders.available().
GIVES = ("thinking", "tools", "tokens", "outcome")
# Chatter always writes thinking down: a call without it had none. Leave it out where you don't know.
LOGS_THINKING = "always"


def sniff(head: Head) -> bool:
    """The first line has a version of the format; no other format uses that key."""
    return as_int(head.first.get("chatter")) is not None


def read(source: Source, out: Builder) -> None:
    """One run per file: a line about the run, its turns, and a line about its end."""
    run: Run | None = None
    for pos, record in source.json_lines():
        record = as_object(record)
        if run is None:
            run = _begin(out, record, pos)
            if "chatter" in record:
                continue
        with out.record(
            pos
        ):  # if this line makes trouble, it is a problem and the next one is read
            if "who" in record:
                _write_turn(run, record, pos)
            else:
                run.outcome(
                    success=as_bool(record.get("solved")), score=as_float(record.get("points"))
                )


def _begin(out: Builder, record: Object, pos: str) -> Run:
    version = as_int(record.get("chatter"))
    run = out.trajectory(
        native_id=as_text(record.get("id")),
        pos=pos,
        framework="chatter",
        format_version=None if version is None else str(version),
        task_id=as_text(record.get("task")),
        model=as_text(record.get("model")),
    )
    tools = [as_object(tool) for tool in as_array(record.get("tools"))]
    if tools:
        run.tools((as_text(t.get("name")), as_text(t.get("is")), t.get("takes")) for t in tools)
    return run


def _write_turn(run: Run, turn: Object, pos: str) -> None:
    says = as_text(turn.get("says"))
    match turn["who"]:
        case "person":
            run.user(says, f"{pos}/says")
        case "model":
            _write_call_of_the_model(run, turn, pos)
        case "tool":
            run.result(
                says,
                f"{pos}/says",
                call_id=as_text(turn.get("answers")),
                is_error=as_bool(turn.get("failed")),
            )
        case other:
            run.event("other", says, pos, actor=as_text(other))


def _write_call_of_the_model(run: Run, turn: Object, pos: str) -> None:
    tokens = as_object(turn.get("tokens"))
    run.step(
        source_pos=pos,
        started_at=as_time(turn.get("at")),
        input_tokens=as_int(tokens.get("in")),
        output_tokens=as_int(tokens.get("out")),
    )
    thinks, says = as_text(turn.get("thinks")), as_text(turn.get("says"))
    if thinks:
        run.thinking(thinks, f"{pos}/thinks")
    if says:
        run.message(says, f"{pos}/says")
    for index, call in enumerate(as_array(turn.get("calls"))):
        call = as_object(call)
        run.call(
            as_text(call.get("tool")),
            call.get("with"),
            f"{pos}/calls/{index}",
            call_id=as_text(call.get("id")),
        )
