"""Who&When failure attribution: one failed run of a team of agents per file, with its annotation.

``mistake_agent``, ``mistake_step`` and ``mistake_reason`` are kept in ``metadata``. The step is a
string of a number that counts the turns of ``history`` from 0, the task included; it is a score too
(``mistake_step``), beside the ``seq`` of its first event (``mistake_seq``) and the number of
``turns``. A turn can be several events, all of which have its number in their ``source_pos``
(``/history/8/content``). Compare steps as numbers: the data set's own scorer looks for one string
inside the other, by which 1 is found in 12.

Of the two halves, Algorithm-Generated names the speaker in ``name``: each turn but a terminal's is
a model call. Hand-Crafted has it in ``role``, as in ``Orchestrator (-> WebSurfer)``. There one call
of the orchestrator shows as several turns, so that the turns of one speaker in a row count as one
call; those marked ``(thought)`` are thinking. What a terminal returns answers the code blocks of
the turn before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from loaders.builder import Builder
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_int,
    as_name,
    as_object,
    as_text,
    is_object,
    place_of,
)

TITLE = "Who&When annotated failure"
GIVES = ("thinking", "outcome")
IGNORED = {
    "role=user /**/history/*/role": "the name beside it says who speaks",
    "role=assistant /**/history/*/role": "the name beside it says who speaks",
}

_TERMINALS = ("Computer_terminal", "ComputerTerminal")
_CODE_BEGINS = re.compile(r"```[ \t]*+(\w*+)[ \t]*+\r?\n")
_CODE_ENDS = re.compile(r"\n[ \t]*+```")
_EXIT_CODE = re.compile(
    r"exitcode: (-?\d{1,9}) \(execution|The script ran, then exited with Unix exit code: (-?\d{1,9})"
)


class Turn(NamedTuple):
    """A turn of the history: who speaks, what the role says about it in brackets, and the text."""

    agent: str | None
    mark: str | None
    text: str | None
    is_named: bool
    text_pos: str


def sniff(head: Head) -> bool:
    """An object with a history of messages and a question; the annotation may lie beyond the head."""
    turns = as_array(head.first.get("history"))
    if not turns or not {"content", "role"} & as_object(turns[0]).keys():
        return False
    return {"mistake_step", "mistake_agent"} <= head.keys or b'"mistake_step"' in head.tail


def read(source: Source, out: Builder) -> None:
    """One run per record; the data set has one record in each file."""
    for pos, record in source.records():
        with out.record(pos):
            _read_run(as_object(record), pos, out)


def _read_run(record: Object, pos: str, out: Builder) -> None:
    history = as_array(record.get("history"))
    turns = [_turn(as_object(turn), f"{pos}/history/{n}") for n, turn in enumerate(history)]
    half = "Algorithm-Generated" if any(t.is_named for t in turns) else "Hand-Crafted"
    mistake = _number(record.get("mistake_step"))
    run = out.trajectory(
        native_id=as_name(record.get("question_ID")),
        pos=pos,
        benchmark="whowhen",
        task_id=as_name(record.get("question_ID")),
        metadata={
            "half": half,
            "mistake_agent": as_text(record.get("mistake_agent")),
            "mistake_step": mistake,
            "mistake_reason": as_text(record.get("mistake_reason")),
            "mistake_type": as_text(record.get("mistake_type")),
            "level": as_name(record.get("level")),
            "question": as_text(record.get("question")),
            "ground_truth": as_name(record.get("ground_truth")),
        },
    )
    for index, turn in enumerate(history):
        if not is_object(turn):
            run.problem(f"{pos}/history/{index}", "no turn, but counted as one")
    _write_prompts(run, record, turns, pos)
    seqs = _write_turns(run, turns, pos)
    _doubt_annotation(run, record, mistake, turns, pos)
    mistake_seq = None if mistake is None or mistake >= len(seqs) else float(seqs[mistake])
    correct = as_bool(record.get("is_correct", record.get("is_corrected")))
    run.outcome(
        success=correct,
        score=None if correct is None else float(correct),
        end_reason=next((t.text for t in turns if t.mark == "termination condition"), None),
        scores=[
            (
                "mistake_step",
                None if mistake is None else float(mistake),
                as_name(record.get("mistake_step")),
            ),
            ("mistake_seq", mistake_seq, None),
            ("turns", float(len(turns)), None),
        ],
    )


def _number(step: object) -> int | None:
    """The annotated step, which the data set writes as a string."""
    if isinstance(step, str) and step.strip().isascii() and step.strip().isdigit():
        step = int(step) if len(step) < 10 else None
    number = as_int(step)
    return number if number is not None and number >= 0 else None


def _turn(turn: Object, pos: str) -> Turn:
    name, role = as_text(turn.get("name")), as_text(turn.get("role"))
    agent, _, mark = (role or "").partition(" (")
    text = as_text(turn.get("content"))
    return Turn(
        agent=name or agent or None,
        mark=mark.removesuffix(")") or None,
        text=text,
        is_named=name is not None,
        text_pos=place_of(turn, "content", pos),
    )


def _write_prompts(run: Run, record: Object, turns: list[Turn], pos: str) -> None:
    """Each agent's system prompt, and the question where no turn asks it."""
    for agent, prompt in as_object(record.get("system_prompt")).items():
        token = agent.replace("~", "~0").replace("/", "~1")
        run.system(as_text(prompt), f"{pos}/system_prompt/{token}", actor=agent)
    question = as_text(record.get("question"))
    if question and not any(turn.agent == "human" for turn in turns):
        run.user(question, f"{pos}/question")


def _write_turns(run: Run, turns: list[Turn], pos: str) -> list[int]:
    """Tell all turns; returns the ``seq`` at which each of them begins."""
    seqs: list[int] = []
    speaking: str | None = None
    for index, turn in enumerate(turns):
        place = f"{pos}/history/{index}"
        is_model = turn.agent != "human" and turn.agent not in _TERMINALS
        is_model &= turn.mark != "termination condition"
        if is_model and (turn.is_named or turn.agent != speaking):
            run.step(source_pos=place, agent=turn.agent)
        speaking = turn.agent if is_model else None
        seqs.append(run.seq)
        if turn.agent in _TERMINALS:
            _write_execution(run, turn, turn.text_pos)
        else:
            _write_turn(run, turn, turn.text_pos)
        is_run_next = index + 1 < len(turns) and _EXIT_CODE.match(turns[index + 1].text or "")
        if is_run_next and turns[index + 1].agent in _TERMINALS:
            _write_code(run, turn, turns[index + 1].agent, turn.text_pos)
    return seqs


def _write_turn(run: Run, turn: Turn, pos: str) -> None:
    if turn.agent == "human":
        run.user(turn.text, pos, actor=turn.agent)
    elif turn.mark == "thought":
        run.thinking(turn.text, pos, actor=turn.agent)
    elif turn.mark == "termination condition":
        run.event("other", turn.text, pos, actor=turn.agent)
    else:
        run.message(turn.text, pos, actor=turn.agent)


def _write_code(run: Run, turn: Turn, terminal: str | None, pos: str) -> None:
    """The code blocks of a turn that a terminal runs next, as one call."""
    blocks = list(_code_blocks(turn.text or ""))
    if blocks:
        run.call(terminal, {"blocks": blocks}, pos, actor=turn.agent)


def _code_blocks(text: str) -> Iterator[Object]:
    at = 0
    while begin := _CODE_BEGINS.search(text, at):
        end = _CODE_ENDS.search(text, begin.end() - 1)
        if end is None:
            return
        yield {"language": begin[1], "code": text[begin.end() : end.start()]}
        at = end.end()


def _write_execution(run: Run, turn: Turn, pos: str) -> None:
    """What a terminal says: what came of the code, or that it found none to run."""
    code = _EXIT_CODE.match(turn.text or "")
    if code is None:
        run.event("other", turn.text, pos, actor=turn.agent)
        return
    run.result(
        turn.text,
        pos,
        tool=turn.agent,
        by_order=True,
        actor=turn.agent,
        exit_code=int(code[1] or code[2]),
    )


def _doubt_annotation(
    run: Run, record: Object, mistake: int | None, turns: list[Turn], pos: str
) -> None:
    """Annotations that contradict the history are kept as they are, with a warning."""
    agent = as_text(record.get("mistake_agent"))
    place = f"{pos}/mistake_step"
    if mistake is None:
        run.problem(place, "the annotated step is no number")
    elif mistake >= len(turns):
        run.problem(place, f"step {mistake} is annotated, but there are {len(turns)} turns")
    elif agent is not None and agent != turns[mistake].agent:
        speaker = turns[mistake].agent
        run.problem(place, f"{agent!r} is annotated, but {speaker!r} speaks at step {mistake}")
