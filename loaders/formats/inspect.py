"""Inspect AI logs: ``.eval`` archives and ``.json`` files, one run per sample and epoch.

Tried on logs of versions 0.3.41 (October 2024) to 0.3.285. An ``.eval`` is a zip of one member per
sample (several, where a sample is stored in chunks) and a header that is written last: without it
the eval was still running or crashed, and the samples that it had finished are read. Parts that
repeat are pooled.

The events of a sample are the source of truth; its ``messages`` are the conversation as it was left
and look the same whether or not thinking was sent back. Model events are told in order: messages of
the input that were not told yet, then the output as a step. What a call saw follows from its input;
which thinking was sent to the model is read from ``call.request`` alone, the request as it went over
the wire. Inspect keeps that for the first calls of each model unless ``--log-model-api`` is set: for
the other calls it is unknown. Calls answered from Inspect's cache keep the tokens of the first
answer and are counted in ``metadata``; each retry is a step of its own with its error.

A reply without the thinking it had, with calls trimmed or merged with its neighbour is still this
reply. A tool result that compaction replaced is told as ``other`` where it is first seen. A scorer's
model calls are told as ``other`` under the scorer's name, no steps. Where agents work beside each
other, ``thinking_dropped`` looks at the replies in this very input, not at other agents'.

What people and solvers put in (info, input, approval, review, interrupt) and what was logged is told
as ``other``. Not told: spans and steps (they name the agent), state and store (changes of what
messages show), sandbox (what tools did inside), score, sample_init, sample_limit and checkpoints
(columns of the run), sentinel, anchor and branch (marks inside the log), attempts before a sample's
retry (their errors are in metadata).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from loaders.builder import Builder
from loaders.errors import UnreadableRecord
from loaders.formats import _inspect_ignored
from loaders.formats._inspect_eval import PATIENCE, Eval
from loaders.formats._inspect_facts import Facts
from loaders.formats._inspect_parts import tokens_of
from loaders.formats._inspect_plain import PlainTranscript
from loaders.formats._inspect_records import OtherEvent, sample_of
from loaders.formats._inspect_rows import PlainRows
from loaders.formats._inspect_sample import Sample, may_refer
from loaders.formats._inspect_transcript import Transcript
from loaders.heads import Head
from loaders.jsontext import decode
from loaders.rows import metadata_of
from loaders.run import Run
from loaders.sources import Source
from loaders.steps import TOKENS
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_object,
    total,
)

TITLE = "Inspect AI log"
GIVES = ("thinking", "sent", "tools", "tokens", "outcome")
LOGS_THINKING = "always"
IGNORED = _inspect_ignored.IGNORED

_HEADER = "header.json"
_SAMPLE = re.compile(r"^samples/.+_epoch_\d+(?:\.json|/sample\.json)$", re.DOTALL)
# fmt: off
_TOLD_OF_SAMPLE = (
    "id", "epoch", "uuid", "input", "output", "messages", "message_refs", "message_pool", "events",
    "events_data", "call_pool", "attachments", "transcript", "scores", "score", "metadata", "error",
    "error_retries", "sandbox", "setup", "files", "started_at", "completed_at",
)
# fmt: on
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_UNNAMED_SCORER = "88F74D2C"  # Inspect's own stand-in where a sample has one nameless score
_CANCELLED = ("CancelledError(", "Cancelled(", "TerminateTaskError(", "KeyboardInterrupt(")


def sniff(head: Head) -> bool:
    """An archive with an eval's journal or header, or an object that begins like a log."""
    if head.is_zip:
        members = set(head.members)
        return "_journal/start.json" in members or (
            _HEADER in members and any(map(_SAMPLE.match, members))
        )
    return {"version", "status", "eval"} <= head.keys and "run_id" in as_object(head.first["eval"])


def members(source: Source) -> Sequence[str]:
    """The samples, where nothing is to be said of the archive as a whole."""
    if not source.head.is_zip or source.archive.damage or _HEADER not in source.archive:
        return []
    decode(source.archive.read(_HEADER))
    return _samples(source)


def _samples(source: Source) -> list[str]:
    return [name for name in source.archive.names if _SAMPLE.match(name)]


def read(source: Source, out: Builder) -> None:
    """One run per sample; one that can't be read is a problem and the others are."""
    if not source.head.is_zip:
        log = as_object(source.json())
        header = Eval(log)
        for index, record in enumerate(as_array(log.get("samples"))):
            pos = f"/samples/{index}"
            with out.record(pos):
                if not is_object(record):
                    raise UnreadableRecord("the sample is no object", pos)
                _tell(out, header, Sample(record, pos))
        return
    archive = source.archive
    if archive.damage:
        out.problem(None, archive.damage)
    header = Eval(_header(source, out))
    with archive.reader() as read_member:
        for member in source.share(_samples(source)):
            with out.record(member):
                folder, is_chunked, _ = member.partition("/sample.json")
                if is_chunked:
                    sample = Sample.in_chunks(archive, folder)
                else:
                    sample = _whole(member, read_member(member))
                source.advance(archive.size(member))
                _tell(out, header, sample)


def _whole(member: str, data: bytes) -> Sample:
    """The sample that is one member of an archive."""
    record = sample_of(data)
    if not is_object(record):
        raise UnreadableRecord("the sample is no object", member)
    refers = bool(record.get("attachments")) or may_refer(data)
    return Sample(record, f"{member}#", may_refer=refers)


def _header(source: Source, out: Builder) -> Object:
    """What the log says of the whole eval, from its end or, where it has none, from its start."""
    for member in (_HEADER, "_journal/start.json"):
        if member not in source.archive:
            reason = f"no {member}: the eval was still running, crashed, or the archive is cut"
            out.problem(None, reason, "warning")
            continue
        with out.record(member):
            return as_object(decode(source.archive.read(member)))
    return {}


def _tell(out: Builder, header: Eval, sample: Sample) -> None:
    record = sample.record
    sample_id, epoch = as_name(record.get("id")), as_name(record.get("epoch"))
    trial = as_name(as_object(record.get("metadata")).get("trial"))
    run = out.trajectory(
        native_id=as_text(record.get("uuid")) or f"{header.run_id}/{sample_id}/{epoch}",
        pos=sample.pos,
        task_id=sample_id,
        trial=epoch if header.has_epochs or trial is None else trial,
        **header.columns,
        **_times(sample),
    )
    _tell_environment(run, record, header.spec)
    _tell_totals(run, record)
    plain = None
    if header.patience:
        plain = PlainTranscript(run, out.gathered(PlainRows), sample, header.toolsets)
    if plain is not None and plain.tell():
        header.patience = PATIENCE
        _tell_facts(run, header, sample, plain.facts)
        return
    header.patience -= plain is not None
    transcript = Transcript(run, sample, header.toolsets)
    try:
        transcript.tell()
    finally:  # what is known of the run holds, too, where its transcript breaks off
        _tell_facts(run, header, sample, transcript.facts)


def _tell_facts(run: Run, header: Eval, sample: Sample, facts: Facts) -> None:
    run.set(
        cost_usd=sum(facts.costs) if facts.costs else run.columns["cost_usd"],
        params=header.params(facts.params, facts.config),
        metadata=header.metadata(*_metadata(sample.record, facts.of_calls())),
    )
    _tell_outcome(run, header, sample)


def _times(sample: Sample) -> dict[str, Any]:
    start = as_time(sample.record.get("started_at"))
    end = as_time(sample.record.get("completed_at"))
    if start is None or end is None:  # as in older logs
        stamps = [as_time(event.timestamp) for event in sample.events.items]
        known = [stamp for stamp in stamps if stamp is not None]
        start, end = start or min(known, default=None), end or max(known, default=None)
    return {"started_at": start, "ended_at": end}


def _tell_environment(run: Run, record: Object, spec: Object) -> None:
    sandbox = record.get("sandbox") or spec.get("sandbox")
    if isinstance(sandbox, str):
        sandbox = {"type": sandbox}
    elif not is_object(sandbox):  # in old logs a pair
        sandbox = dict(zip(("type", "config"), as_array(sandbox), strict=False))
    run.environment(
        sandbox=as_text(sandbox.get("type")),
        config=as_json(sandbox.get("config")),
        setup=as_text(record.get("setup")),
        files=as_json(record.get("files") or None),
    )


def _tell_totals(run: Run, record: Object) -> None:
    """Sums over all models, which stand where no call reports its own tokens, and the cost."""
    usages = [as_object(usage) for usage in as_object(record.get("model_usage")).values()]
    rows = [tokens_of(usage) for usage in usages]
    tokens = rows[0] if len(rows) == 1 else [total(*counts) for counts in zip(*rows, strict=True)]
    costs = [cost for usage in usages if (cost := as_float(usage.get("total_cost"))) is not None]
    run.set(
        **dict(zip(TOKENS, tokens, strict=False)),
        cost_usd=sum(costs) if costs else None,
    )


def _metadata(record: Object, of_calls: Object) -> tuple[Object, Object]:
    """Facts of a sample that stand in its record as they are, and others."""
    error = as_object(record.get("error"))
    retries = [as_object(e).get("message") for e in as_array(record.get("error_retries"))]
    more = {
        "sample_metadata": record.get("metadata"),
        "errors_before_retry": retries,
        "traceback": error.get("traceback"),
        "score_details": {
            name: details
            for name, score in as_object(record.get("scores")).items()
            if (details := metadata_of(as_object(score), ("value",)))
        },
        **of_calls,
    }
    return metadata_of(record, _TOLD_OF_SAMPLE), more


# ---------------------------------------------------------------------- outcome


def _tell_outcome(run: Run, header: Eval, sample: Sample) -> None:
    scores = _scores(header, sample.record)
    main = scores[0] if scores else None
    outcome, reason = _early_end(header, sample)
    success = None if main is None else _success(main[2])
    run.outcome(
        None if success else outcome,  # who was stopped may have solved the task before
        success=success,
        score=None if main is None else main[1],
        end_reason=reason,
        scores=[(name, value, as_json(raw)) for name, value, raw in scores],
    )


def _scores(header: Eval, record: Object) -> list[tuple[str, float | None, Any]]:
    """(name, number, as logged): the main score is the first; parts of one follow it by name."""
    logged = as_object(record.get("scores"))
    if not logged and record.get("score") is not None:  # one nameless score, in the oldest logs
        logged = {_UNNAMED_SCORER: record["score"]}
    found: list[tuple[str, float | None, Any]] = []
    for name, score in logged.items():
        if name == _UNNAMED_SCORER:
            name = header.scorer
        value = as_object(score).get("value")
        found.append((name, _number(value), value))
        parts = value if is_object(value) else dict(enumerate(as_array(value)))
        found += [(f"{name}/{key}", _number(part), part) for key, part in parts.items()]
    return found


def _number(value: Any) -> float | None:
    """A score as a number, by Inspect's own reading of letters and words.

    >>> _number("C"), _number(True), _number("no"), _number(0.25), _number({"a": 1})
    (1.0, 1.0, 0.0, 0.25, None)
    """
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return _LETTERS.get(value, _WORDS.get(value.lower()))
    return as_float(value)


def _success(value: Any) -> bool | None:
    """Whether the sample passed, where its score says yes or no; None for one in between.

    >>> _success("C"), _success("P"), _success(1), _success(0.4)
    (True, False, True, None)
    """
    number = _number(value)
    if number in (0.0, 1.0):
        return number == 1.0
    return False if value == "P" else None


def _early_end(header: Eval, sample: Sample) -> tuple[str | None, str | None]:
    """Outcome and reason where the sample was stopped; else None: its score decides."""
    message = as_text(as_object(sample.record.get("error")).get("message"))
    if message is not None:
        return ("cancelled" if message.startswith(_CANCELLED) else "error"), message
    limit = as_object(sample.record.get("limit"))
    if not limit:
        others = [event for event in sample.events.items if type(event) is OtherEvent]
        limits = [event.fields for event in others if event.kind == "sample_limit"]
        limit = limits[0] if limits else None
    if limit:
        kind = as_text(limit.get("type")) or "unknown"
        outcome = "cancelled" if kind == "operator" else "limit"
        return outcome, as_text(limit.get("reason")) or as_text(limit.get("message")) or kind
    if header.status == "cancelled" and not sample.record.get("scores"):
        return "cancelled", "the eval was cancelled"
    return None, None
