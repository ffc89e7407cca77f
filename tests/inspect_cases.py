"""Inspect logs for tests: read without the loaders, and written here."""

from __future__ import annotations

import copy
import io
import json
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import loaders
from loaders import Trajectories

OWN = Path(__file__).parent / "inspect_logs"
# fmt: off
SHOWN = [
    "seq", "step", "kind", "actor", "text", "thinking_state", "signature", "tool", "call_id",
    "call_seq", "arguments", "is_error", "error_type", "truncated", "started_at", "duration_s",
    "media",
]
CALLS = [
    "step", "seq", "agent", "model", "started_at", "ended_at", "input_tokens", "output_tokens",
    "stop_reason", "thinking", "thinking_available", "thinking_sent", "evidence", "history_edit",
    "context", "thinking_context", "toolset",
]
# fmt: on


# ---------------------------------------------------------------------- raw logs, read on their own


def members(path: Path) -> dict[str, Any]:
    """The JSON members of an archive, unpacked without the loader."""
    found: dict[str, Any] = {}
    with path.open("rb") as file, zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            file.seek(info.header_offset)
            name_length, extra_length = struct.unpack("<HH", file.read(30)[26:])
            file.seek(name_length + extra_length, io.SEEK_CUR)
            packed = file.read(info.compress_size)
            if info.compress_type == 93:
                if sys.version_info >= (3, 14):
                    from compression import zstd

                    data = zstd.decompress(packed)
                else:
                    import zstandard

                    data = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
            else:
                data = archive.read(info)
            found[info.filename] = json.loads(data)
    return found


def raw_samples(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".json":
        return json.loads(path.read_text())["samples"]
    return [m for name, m in members(path).items() if name.startswith("samples/")]


def in_place(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample as logs were before pools and attachments."""
    sample = copy.deepcopy(sample)
    attachments, pools = sample.pop("attachments"), sample.pop("events_data")
    for event in sample["events"]:
        if event["event"] == "model":
            refs = event.pop("input_refs")
            event["input"] = [m for a, b in refs for m in pools["messages"][a:b]]
            call = event["call"]
            refs = call.pop("call_refs")
            call["request"][call.pop("call_key")] = [
                m for a, b in refs for m in pools["calls"][a:b]
            ]

    def resolved(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("attachment://"):
            return attachments[value.removeprefix("attachment://")]
        if isinstance(value, list):
            return [resolved(item) for item in value]
        if isinstance(value, dict):
            return {key: resolved(item) for key, item in value.items()}
        return value

    return resolved(sample)


# ---------------------------------------------------------------------- logs written here


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def reply(text: str = "", think: str | None = None, *calls: str, **more: Any) -> dict[str, Any]:
    content: Any = [{"type": "text", "text": text}]
    if think is not None:
        content.insert(0, {"type": "reasoning", "reasoning": think})
    found = [{"id": c, "function": "look", "arguments": {"at": c}} for c in calls]
    return message("assistant", content, tool_calls=found or None, **more)


def model(
    shown: list[dict[str, Any]], output: dict[str, Any] | None, sent: Any = None, **more: Any
) -> dict[str, Any]:
    """A model event; ``sent`` is the list of messages in its raw request."""
    choices = [] if output is None else [{"message": output, "stop_reason": "stop"}]
    event = {
        "event": "model",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "model": "local/m",
        "input": shown,
        "tools": [],
        "config": {},
        "output": {"choices": choices},
        **more,
    }
    return event if sent is None else {**event, "call": {"request": {"messages": sent}}}


def sample(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "s", "epoch": 1, "messages": [], "events": list(events), **more}


def log_of(*samples: Any, **more: Any) -> dict[str, Any]:
    spec = {"run_id": "r", "task": "t", "model": "local/m", "packages": {"inspect_ai": "0.3.200"}}
    return {"version": 2, "status": "success", "eval": spec, **more, "samples": list(samples)}


def reader(tmp_path: Path) -> Any:
    """Writes samples as a log and reads it, once each event has led back to its record."""

    def read(*samples: Any, **more: Any) -> Trajectories:
        path = tmp_path / "log.json"
        path.write_text(json.dumps(log_of(*samples, **more)))
        runs = loaders.load(path, format="inspect")
        assert_every_event_leads_back(runs)
        return runs

    return read


def assert_every_event_leads_back(runs: Trajectories) -> None:
    for row in runs.events.collect().iter_rows(named=True):
        runs.raw(row["trajectory_id"], row["seq"])


def steps(runs: Trajectories) -> list[dict[str, Any]]:
    return runs.steps.collect().to_dicts()


def told(runs: Trajectories, *columns: str) -> list[Any]:
    frame = runs.events.select(*(columns or ("kind", "text"))).collect()
    return [row[0] if len(columns) == 1 else row for row in frame.iter_rows()]


def ranges(row: dict[str, Any], name: str = "context") -> list[tuple[int, int]]:
    return [(r["start"], r["stop"]) for r in row[name]]


def metadata_of(runs: Trajectories) -> dict[str, Any]:
    return json.loads(runs.trajectories.collect()["metadata"][0])


def problems(runs: Trajectories) -> list[tuple[str, str]]:
    return runs.problems.select("severity", "reason").collect().rows()


def span(name: str, kind: str, inside: str | None = None) -> dict[str, Any]:
    return {"event": "span_begin", "id": name, "name": name, "type": kind, "parent_id": inside}


def write_archive(path: Path, entries: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            text = content if isinstance(content, str) else json.dumps(content)
            archive.writestr(name, text)
    return path


def entries_of(*samples: dict[str, Any]) -> dict[str, Any]:
    log = log_of()
    start = {key: log[key] for key in ("version", "eval")}
    return {
        "_journal/start.json": start,
        **{f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in samples},
        "summaries.json": [],
        "header.json": {key: value for key, value in log.items() if key != "samples"},
    }


def numbered(count: int) -> list[dict[str, Any]]:
    return [
        {**sample(model([message("user", f"q{n}")], reply(f"a{n}"))), "id": f"s/{n}#x"}
        for n in range(count)
    ]
