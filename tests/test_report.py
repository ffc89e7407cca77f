"""The report answers first, opens its runs, and does nothing that a log tells it to."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from simulate import Planted, simulate
from small import Rows, runs_of

import loaders
from analysis import report, report_html
from analysis.tables import as_text
from loaders import Trajectories

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\"'&javascript:alert(3)"


def hostile_runs() -> Trajectories:
    """Two arms of 12 tasks in which every text column tries to break out."""
    runs: Rows = []
    events: Rows = []
    steps: Rows = []
    for number in range(24):
        runs.append(
            {
                "run": number,
                "arm": f"{HOSTILE}{number % 2}",
                "model": HOSTILE,
                "framework": HOSTILE,
                "task_id": f"{HOSTILE}{number // 2}",
                "trial": "0",
                "success": number % 3 == 0,
                "outcome": "success" if number % 3 == 0 else "failure",
                "source": HOSTILE,
                "source_pos": HOSTILE,
                "format": "made",
                "steps": 1,
                "events": 2,
            }
        )
        steps.append({"run": number, "step": 0, "seq": 0})
        for seq, kind in enumerate(("tool_call", "tool_result")):
            events.append(
                {
                    "run": number,
                    "seq": seq,
                    "step": 0,
                    "kind": kind,
                    "tool": HOSTILE,
                    "text": HOSTILE,
                    "is_error": True if seq else None,
                    "call_seq": 0 if seq else None,
                }
            )
    made = runs_of(runs, steps, events)
    problem = pl.DataFrame(
        {"source": [HOSTILE], "position": [HOSTILE], "severity": ["error"], "reason": [HOSTILE]}
    )
    tables = {n: getattr(made, n).collect() for n in ("trajectories", "steps", "events", "tools")}
    empty = made.problems.collect()
    return Trajectories.from_frames(
        {
            **tables,
            "problems": pl.concat(
                [empty, problem.cast({"severity": empty.schema["severity"]})], how="diagonal"
            ),
        }
    )


class Page(HTMLParser):
    """Collects what a browser would run or fetch, and the anchors of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.active: list[str] = []
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "iframe", "object", "embed", "link", "img", "base", "form"):
            self.active.append(tag)
        self.active += [name for name in given if name.startswith("on")]
        for name in ("href", "src", "xlink:href"):
            value = given.get(name) or ""
            if value.startswith("#"):
                self.links.add(value[1:])
            elif value:
                self.active.append(f"{name}={value}")
        if given.get("id"):
            self.ids.append(str(given["id"]))


def test_hostile_text_is_shown_and_never_run() -> None:
    page = Page(report_html.render(report.make(hostile_runs(), by="arm")))
    assert page.active == []


def test_a_megabyte_in_each_name_leaves_the_page_light() -> None:
    runs = simulate(Planted(tasks=12), 0)
    long = "x" * 1_000_000
    ids = runs.trajectories.select(
        "trajectory_id", pl.concat_str(pl.col("trial"), pl.lit(long)).alias("arm")
    ).collect()
    html = report_html.render(report.make(runs.label(ids, on="trajectory_id"), by="arm"))
    assert len(html) < 600_000
    assert Page(html).active == []


def test_what_is_drawn_and_read_out_is_escaped() -> None:
    html = report_html.render(report.make(hostile_runs(), by="arm"))
    assert "<svg" in html
    assert "\x1b" not in html.replace("\n", "")
    labels = re.findall(r"aria-label='([^']*)'", html)
    assert any("&lt;script&gt;" in text for text in labels)
    assert "Content-Security-Policy" in html


def test_hostile_text_does_not_steer_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "evil\x1b[31m.json").write_text("nothing to read")
    done = subprocess.run(
        [sys.executable, "-m", "analysis.cli", "load", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "\x1b[31m.json" not in done.stderr + done.stdout


def test_every_link_of_the_page_leads_to_a_run() -> None:
    runs = simulate(Planted(tasks=30), 0)
    html = report_html.render(report.make(runs))
    page = Page(html)
    assert page.links <= set(page.ids)
    assert sum(link.startswith("run-") for link in page.links) > 50
    assert len(page.ids) == len(set(page.ids))


def test_numbers_on_the_page_are_those_of_the_frames() -> None:
    made = report.make(simulate(Planted(tasks=60), 4))
    html = report_html.render(made)
    for section in made.sections:
        for cell in as_text(section.result).rows[0]:
            assert cell.replace("<", "&lt;").replace(">", "&gt;") in html


def test_bfcl_report_names_the_gain_and_the_repeats(real_logs: Path) -> None:
    made = report.make(loaders.load(real_logs / "bfcl"))
    said = " ".join([made.answer, *made.support])
    assert "+12.0 points" in made.answer
    assert "39 gained, 15 lost, exact McNemar p = .0015" in made.answer
    assert re.search(r"repeat one whose response was in order: 27 in 2025-11-12-main, 5 in", said)
    assert made.notes
    assert "folders" in made.notes[0]
    assert len(made["compare"].runs("gained")) == 39


def test_agentdojo_report_separates_the_detector_arm(real_logs: Path) -> None:
    made = report.make(loaders.load(str(real_logs / "agentdojo/runs/{arm}/banking")))
    detector = "gpt-4o-2024-05-13-transformers_pi_detector"
    assert made.answer.startswith(f"{detector} succeeds in 32.5 %")
    said = " ".join(made.support)
    assert re.search(
        rf"identical calls got another response in \d\d % of cases \(gpt-4o-2024-05-13 against {detector}\)",
        said,
    )
    replaced = made["differences"].runs(detector, signal="response_replaced")
    shown = replaced.events.filter(pl.col("kind") == "tool_result").collect()
    assert shown["text"].str.contains("(?i)omitted").mean() > 0.5


def test_without_outcomes_it_says_so_and_still_shows_what_it_can(real_logs: Path) -> None:
    made = report.make(loaders.load(real_logs / "claude_code"))
    assert "none has a known outcome" in made.answer
    assert {section.name for section in made.sections} >= {"continuity", "rates"}
    assert made["continuity"].frame["calls_unknown"].sum() > 0


def test_command_line(tmp_path: Path, real_logs: Path) -> None:
    page = tmp_path / "out.html"
    derail = [sys.executable, "-m", "analysis.cli"]
    logs = str(real_logs / "bfcl")
    done = subprocess.run(
        [*derail, "report", logs, "--html", str(page)], capture_output=True, text=True, check=True
    )
    assert done.stdout.lstrip().startswith("2025-11-12-harmony-fixes succeeds in 62.0 %")
    assert page.read_text().startswith("<!doctype html>")
    listed = subprocess.run([*derail, "formats"], capture_output=True, text=True, check=True)
    assert all(name in listed.stdout for name in loaders.available()["format"])
    loaded = subprocess.run([*derail, "load", logs], capture_output=True, text=True, check=True)
    assert "400 runs" in loaded.stdout
    assert "data_multi_turn.csv" in loaded.stdout
    wrong = subprocess.run(
        [*derail, "report", "no-such-folder"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 1
    assert "Nothing found" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("kind", ["success", "triggers", "by_step", "rates", "pass_k"])
def test_charts_are_drawn_without_a_network(kind: str) -> None:
    from analysis.plots import to_svg

    made = report.make(simulate(Planted(tasks=60), 1))
    svg = to_svg(made[kind].chart())
    assert svg.startswith("<svg")
    assert "NaN" not in svg


def test_text_that_would_abort_or_hang_the_renderer_is_drawn() -> None:
    from analysis.plots import to_png, to_svg

    made = report.make(hostile_runs(), by="arm")
    chart = made["success"].chart()
    assert "\ufffd[31m" in to_svg(chart)
    assert to_png(chart).startswith(b"\x89PNG")
    long = simulate(Planted(tasks=12), 0)
    ids = long.trajectories.select("trajectory_id", pl.lit("x" * 1_000_000).alias("arm")).collect()
    assert (
        len(to_svg(report.make(long.label(ids, on="trajectory_id"), by="arm")["success"].chart()))
        < 100_000
    )


def test_a_report_on_every_folder_of_real_logs(real_logs: Path) -> None:
    pages = 0
    for folder in sorted(path for path in real_logs.iterdir() if path.is_dir()):
        try:
            runs = loaders.load(folder, progress=False)
        except loaders.LoadError:
            continue
        made = report.make(runs)
        html = report_html.render(made)
        words = [made.answer, *made.support, *(section.answer for section in made.sections)]
        assert not any(re.search(r"\bnan\b|\bNone\b", text) for text in words), (folder.name, words)
        assert Page(html).active == [], folder.name
        pages += 1
    assert pages > 25
