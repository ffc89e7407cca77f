"""What the runners of small samples share: tasks in several styles, each with log, wire and truth.

A runner says which tasks it runs in which style and how one of them is played; here they are played
one after the other, and written as ``frameworks/<name>/<style>/<task><ending>``, with ``wire.har``
beside the styles and ``truth_parts/<name>.json``. A log that is a folder has endings with a slash.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clean
from server import ModelServer, serving
from visit import Visit, tasks_by_id, truth_of, write_part

MODEL = "planner-1"
TRIAL = 1
TYPES: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
SYSTEM = (
    "You work at a service desk. Use the tools, one call at a time, hand in your answer with submit, "
    "and then say that you are done."
)


@dataclass
class Stay:
    """One run to be played: the visit, and where its model is."""

    visit: Visit
    style: str
    server: ModelServer

    def url(self, given: str | None = None, version: str = "/v1") -> str:
        """Where the model is, giving thinking in the way of that API."""
        return self.server.base_url(self.style, self.visit.task.id, TRIAL, given, version)


@dataclass
class Played:
    """How a run went: the text of its log, and how it ended."""

    log: str
    ended: str = "done"
    """``done``, ``limit``, or the exception that the framework let through."""
    more: dict[str, str] = field(default_factory=dict)
    """Ending to text: the same run as the framework writes it in other forms."""


def run_all(
    name: str,
    version: str,
    runs: Mapping[str, Sequence[str]],
    play: Callable[[Stay], Played],
    *,
    ending: str = ".json",
    wire: Mapping[str, Sequence[str]] | None = None,
    words: Mapping[str, str] | None = None,
) -> None:
    """Play the tasks of each style and write everything; ``wire``: only these go into the archive.

    ``words``: what it is to text of the framework's own, which a marker takes the place of.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, help="folder to write frameworks/ and truth_parts/ into")
    parser.add_argument("--limit", type=int, help="the first N tasks of each style only")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    logs = out / "frameworks" / name
    shutil.rmtree(logs, ignore_errors=True)
    tasks = tasks_by_id()
    truth: list[dict[str, Any]] = []
    recorded: list[tuple[str, str, str]] = []
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that no path of this machine gets into a log
        for style, task_ids in runs.items():
            for task_id in task_ids[: options.limit]:
                visit = Visit(tasks[task_id], TRIAL)
                played = play(Stay(visit, style, server))
                run = (style, task_id, str(TRIAL))
                path = logs / style / f"{task_id}{ending}"
                write_log(path, without_words(played.log, words or {}))
                for other, text in played.more.items():
                    write_log(logs / style / f"{task_id}{other}", without_words(text, words or {}))
                if wire is None or task_id in wire.get(style, ()):
                    recorded.append(run)
                truth.append(
                    truth_of(
                        visit,
                        server.records[run],
                        played.ended == "limit",
                        log_text=played.log + "".join(played.more.values()),
                        style=style,
                        log=str((path.parent if ending[0] == "/" else path).relative_to(out)),
                        wire=run in recorded,
                        ended=played.ended,
                    )
                )
        server.write_har(logs / "wire.har", recorded)
    archive = (logs / "wire.har").read_text(encoding="utf-8")
    write_log(logs / "wire.har", without_words(archive, words or {}))
    write_part(out, name, version, truth)


def function_of(definition: dict[str, Any], visit: Visit) -> Callable[..., str]:
    """A tool, or the one that hands in the answer, as a function with a signature and a docstring.

    For frameworks that read a tool's definition off a function.
    """
    told = definition["function"]
    name, properties = told["name"], told["parameters"]["properties"]

    def use(*values: Any, **named: Any) -> str:
        arguments = {**dict(zip(properties, values, strict=False)), **named}
        return (
            visit.submit(arguments["answer"]) if name == "submit" else visit.call(name, arguments)
        )

    kinds = {key: TYPES[given["type"]] for key, given in properties.items()}
    parameters = [
        inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
        for key, kind in kinds.items()
    ]
    lines = [f"    {key}: {given['description']}" for key, given in properties.items()]
    use.__name__ = use.__qualname__ = name
    use.__doc__ = "\n".join(
        [told["description"], "", "Args:", *lines] if lines else [told["description"]]
    )
    use.__annotations__ = {**kinds, "return": str}
    use.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=str
    )
    return use


def descriptions(stay: Stay) -> dict[str, str]:
    """The descriptions of tools that a run's first request held, for ``words``."""
    style, task = stay.style, stay.visit.task.id
    request = json.loads(stay.server.exchanges[style, task, str(TRIAL)][0].request)
    found: dict[str, str] = {}
    for tool in request["tools"]:
        function = tool["function"]
        found[f"description of the tool {function['name']}"] = function["description"]
        for name, given in function["parameters"]["properties"].items():
            if given.get("description"):
                found[f"description of {name} of {function['name']}"] = given["description"]
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def write_log(path: Path, text: str) -> None:
    """Write a log that names nothing of this machine, packed if its name says so."""
    clean.check(text, path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def without_words(log: str, words: Mapping[str, str]) -> str:
    """The log with a marker for each text that is the framework's authors' own."""
    for what, text in words.items():
        mark = hashlib.sha256(text.encode()).hexdigest()[:12]
        marker = f"[{what}: {len(text)} characters, sha256 {mark}]"
        for written in (text, *_escaped(text), *_escaped(*_escaped(text))):
            log = log.replace(written, marker)
    return log


def _escaped(*texts: str) -> list[str]:
    """The texts as they stand inside JSON, with and without letters beyond ASCII."""
    return [json.dumps(text, ensure_ascii=plain)[1:-1] for text in texts for plain in (True, False)]
