"""The card of a set of runs: what it says, and that no log can do anything through it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small import Rows, runs_of

import loaders
from loaders import Trajectories
from loaders.card import _COLOURS, summarize
from loaders.marks import is_simulated
from loaders.schema import OUTCOMES, PROBLEMS

PLANTED = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>\x1b[2J\x1b]0;owned\x07\r\n"


class Read(HTMLParser):
    """The tags, attributes and texts of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes.extend(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def with_problems(runs: Trajectories, *problems: tuple[str, str | None, str, str]) -> Trajectories:
    rows = [(*row, None, None) for row in problems]
    tables = {name: getattr(runs, name) for name in ("trajectories", "steps", "events", "tools")}
    problem_rows = pl.DataFrame(rows, schema=PROBLEMS, orient="row").lazy()
    return Trajectories({**tables, "problems": problem_rows})


@pytest.fixture
def runs() -> Trajectories:
    trajectories: Rows = [
        {
            "run": 0,
            "format": "inspect",
            "model": "m-1",
            "task_id": "a",
            "outcome": "success",
            "arm": "x",
        },
        {"run": 1, "format": "inspect", "model": "m-2", "task_id": "b", "outcome": "failure"},
        {"run": 2, "format": "codex", "model": "m-1", "task_id": "a", "parent_id": "r0"},
    ]
    for row in trajectories:
        row.update(steps=2, events=5)
        row.setdefault("outcome", "unknown")
    sent = [(0, 0, None), (0, 3, 3), (1, 0, None), (1, 2, 1), (2, None, None), (2, 4, None)]
    steps: Rows = [
        {"run": run, "step": n % 2, "thinking": "text" if n else None}
        | {"thinking_available": available, "thinking_sent": count}
        for n, (run, available, count) in enumerate(sent)
    ]
    events: Rows = [{"run": 0, "seq": n, "kind": "message"} for n in range(3)]
    return with_problems(
        runs_of(trajectories, steps, events),
        ("a.txt", None, "skipped", "no known format"),
        ("b.json", "L3", "error", "cut short"),
        ("c.json", None, "warning", "odd"),
    )


def test_the_summary_counts(runs: Trajectories) -> None:
    found = summarize(runs)
    assert (found.runs, found.subagents, found.tasks, found.steps, found.events) == (3, 1, 2, 6, 15)
    assert found.formats == [("inspect", 2), ("codex", 1)]
    assert found.models == [("m-1", 2), ("m-2", 1)]
    assert found.outcomes == [("success", 1), ("failure", 1), ("unknown", 1)]
    assert found.thinking == [("text", 5), ("not known", 1)]
    assert dict(found.sent) == {"kept": 1, "dropped": 1, "unknown": 1}
    assert found.thinking_line == "sent back in 1 of 2 calls whose request is known; unknown for 1"
    assert found.problems == [("error", 1), ("warning", 1), ("skipped", 1)]
    assert [source for source, _, _ in found.first_problems] == ["b.json", "c.json", "a.txt"]


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (
            [(0, None), (None, None)],
            "no call had earlier thinking to send back, as far as the logs show",
        ),
        ([(2, None), (3, None)], "unknown for all 2 calls that had earlier thinking"),
        ([(2, 2), (3, 3), (0, 0)], "sent back in 2 of 2 calls whose request is known"),
    ],
)
def test_one_sentence_says_whether_thinking_was_sent(sent: Any, line: str) -> None:
    steps: Rows = [
        {"run": 0, "step": n, "thinking_available": a, "thinking_sent": s}
        for n, (a, s) in enumerate(sent)
    ]
    assert summarize(runs_of([{"run": 0}], steps)).thinking_line == line


def test_the_text_card_says_the_same(runs: Trajectories) -> None:
    text = repr(runs)
    assert text.splitlines()[0] == (
        "Trajectories: 3 runs (1 of subagents) over 2 tasks, 6 model calls, 15 events"
    )
    for part in ("inspect 2, codex 1", "success 1, failure 1", "b.json at L3: cut short", "x 1"):
        assert part in text
    shown = " ".join(Read(runs._repr_html_()).texts)
    assert "3 runs (1 of subagents) over 2 tasks" in shown
    assert "3 problems" in shown
    assert "runs.problems.collect()" in shown


def planted(text: str) -> Trajectories:
    columns = ("format", "framework", "model", "arm", "task_id", "source")
    runs = runs_of([{"run": 0, "outcome": "success", **dict.fromkeys(columns, text)}])
    return with_problems(runs, (text, text, "error", text))


def test_text_of_logs_is_shown_and_does_nothing() -> None:
    html = planted(PLANTED)._repr_html_()
    found = Read(html)
    assert found.open == []
    assert set(found.tags) <= {
        *("style", "div", "b", "span", "table", "tr", "th", "td"),
        *("details", "summary", "ul", "li", "code", "small"),
    }
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert {name for name, _ in found.attributes} <= {
        "class",
        "style",
        "title",
        "role",
        "aria-label",
    }
    assert not re.search(r"url\(|@import|expression\(|javascript:", html)
    assert any("<script>alert('x')</script>" in text for text in found.texts)  # as text
    assert "\x1b" not in html


def test_no_log_steers_the_terminal() -> None:
    text = repr(planted(PLANTED))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert len(text.splitlines()) < 14
    assert "<script>" in text


def test_megabytes_of_text_are_cut() -> None:
    runs = planted("x" * (1 << 20) + PLANTED)
    assert len(repr(runs)) < 6_000
    assert len(runs._repr_html_()) < 8_000
    assert "..." in repr(runs)


def test_long_lists_are_cut() -> None:
    many = runs_of([{"run": n, "model": f"m-{n:03}", "outcome": "success"} for n in range(40)])
    text = repr(many)
    assert "m-005 1 and 34 more" in text
    assert "m-006" not in text
    problems = [("f", f"L{n}", "error", "odd") for n in range(500)]
    busy = with_problems(many, *problems)
    assert repr(busy).count(": odd") == 6
    assert "500 problems" in busy._repr_html_()


def test_a_set_of_nothing_has_a_card() -> None:
    empty = runs_of([])
    assert repr(empty).startswith("Trajectories: 0 runs, 0 model calls, 0 events")
    assert Read(empty._repr_html_()).open == []


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_stand_out_on_light_and_on_dark_pages(runs: Trajectories) -> None:
    assert set(_COLOURS) == set(OUTCOMES)
    for colour in _COLOURS.values():
        light = 1.05 / (luminance(colour) + 0.05)
        dark = (luminance(colour) + 0.05) / (luminance("#1e1e1e") + 0.05)
        assert min(light, dark) >= 3  # WCAG 1.4.11
    html = runs._repr_html_()
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"[;{]color:", style)  # text takes the page's own colour
    assert not re.search(r"background(-color)?:(?!none)", style)
    assert all(rule.startswith(".derail-") for rule in re.findall(r"[}>]([^{}<>]+)\{", style))


def test_simulated_runs_are_counted_wherever_they_go(tmp_path: Path) -> None:
    """By a file above the logs or by the log's own metadata; through filters, stores, sums and saves."""
    log = {"messages": [{"role": "user", "content": "Look."}], "success": True}
    for name, more in (("real", {}), ("told", {"about": {"simulated": True}}), ("beside/deep", {})):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_text(json.dumps({**log, **more, "task_id": name}) + "\n")
    (tmp_path / "beside" / "SIMULATED").write_text("by our own planner")
    (tmp_path / "real" / "note.json").write_text('{"text": "\\"simulated\\": true"}')
    runs = loaders.load([tmp_path / name for name in ("real", "told", "beside")])
    marked = runs.trajectories.filter(is_simulated()).collect()
    assert marked["task_id"].sort().to_list() == ["beside/deep", "told"]
    assert summarize(runs).simulated == 2
    assert "2 runs: no real model" in repr(runs)
    assert "2 runs: no real model is in them" in runs._repr_html_()
    again = loaders.scan(runs.save(tmp_path / "store"))
    assert summarize(again).simulated == 2
    assert summarize(again.filter(task_id="told")).simulated == 1
    assert "no real model" not in repr(runs.filter(task_id="real"))
