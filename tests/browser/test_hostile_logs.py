"""Logs are hostile: in the card, the report, charts and every widget their text only shows itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab import Lab, Notebook
from playwright.sync_api import Browser, Dialog, Locator, expect

SETUP = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from hostile import hostile
import analysis
from analysis.widgets import *
runs = hostile()
"""


def unharmed(notebook: Notebook) -> None:
    """No script ran, nothing popped up, nothing was fetched, nothing failed."""
    assert notebook.page.evaluate("() => window.pwned") is None
    planted = "script:not([src]), img[onerror], svg[onload], iframe, a[href^='javascript:']"
    inside = notebook.page.locator(".jp-OutputArea-output").locator(planted)
    assert inside.count() == 0
    notebook.assert_clean()


CELLS = {
    "explorer": "Explorer(runs, by='arm')",
    "finder": "BreakdownFinder(runs, by='arm')",
    "builder": "AblationBuilder(runs, factors='arm')",
    "studio": "FigureStudio(runs)",
    "card": "runs",
    "result": "analysis.outcomes.success(runs)",
    "chart": "analysis.outcomes.success(runs).chart()",
}


@pytest.fixture(scope="module")
def notebook(lab: Lab, open_notebook: Callable[..., Notebook]) -> Notebook:
    """Everything that shows logs, in one notebook."""
    opened = open_notebook(lab.write("hostile.ipynb", SETUP, *CELLS.values()))
    opened.run_all()
    return opened


def cell(notebook: Notebook, name: str) -> Locator:
    """A code cell of the notebook, on screen."""
    found = notebook.page.locator(".jp-CodeCell").nth(1 + list(CELLS).index(name))
    found.scroll_into_view_if_needed()
    return found


def test_the_explorer_shows_hostile_text_and_does_nothing(notebook: Notebook) -> None:
    explorer = cell(notebook, "explorer")
    explorer.locator(".heatmap td button").nth(1).click()
    explorer.locator(".runlist tbody tr").first.click()
    expect(explorer.locator(".timeline .where")).not_to_be_empty()  # the run has arrived
    explorer.locator(".timeline .strip").focus()
    for key in ("Home", "ArrowRight", "t", "e", "End"):
        notebook.page.keyboard.press(key)
    text = explorer.locator(".eventview pre[aria-label=text]")
    expect(text).to_contain_text("<script>window.pwned=1")
    expect(text).to_contain_text("\u241b[31mred")
    expect(text).to_contain_text("\u2039U+202E\u203a")
    explorer.locator(".timeline canvas").first.hover()
    expect(explorer.locator(".timeline .tip")).to_contain_text("step")
    explorer.get_by_label("search in text").fill("<img")
    expect(explorer.locator(".runlist th", has_text="matches")).to_be_visible()
    unharmed(notebook)


def test_a_megabyte_in_one_line_is_shown_from_its_head(notebook: Notebook) -> None:
    explorer = cell(notebook, "explorer")
    explorer.get_by_label("search in text").fill("")
    explorer.get_by_label("search in text").press("Enter")
    expect(explorer.locator(".runlist .head .muted")).to_contain_text("failures first")
    explorer.locator(".runlist tbody tr", has_text="0<script>").first.click()
    expect(explorer.locator(".timeline .where")).to_contain_text("Click an event")
    explorer.locator(".timeline .strip").focus()
    notebook.page.keyboard.press("Home")
    text = explorer.locator(".eventview pre[aria-label=text]")
    more = explorer.get_by_role("button", name="show all 1,000,000 characters")
    expect(more).to_be_visible()
    assert len(text.inner_text()) == 20_000
    more.click()
    assert len(text.inner_text()) == 1_000_000
    unharmed(notebook)


def test_the_other_widgets_show_hostile_text_and_do_nothing(notebook: Notebook) -> None:
    finder = cell(notebook, "finder")
    finder.locator(".runlist tbody tr").first.click()
    finder.get_by_role("button", name="first difference").click()
    expect(finder.locator(".eventview h3")).to_contain_text("tool call")
    finder.locator(".timeline canvas").first.hover()
    builder = cell(notebook, "builder")
    builder.locator(".effects tbody tr").first.click()
    expect(builder.locator(".runlist h3")).to_contain_text("<")
    studio = cell(notebook, "studio")
    expect(studio.locator(".preview img")).to_be_visible()
    studio.get_by_label("file name").fill("<img src=x onerror=alert(1)>")
    studio.get_by_role("button", name="export").click()
    expect(studio.locator(".note").first).to_contain_text("is no file name")
    unharmed(notebook)


def test_card_result_and_chart_show_hostile_text_and_do_nothing(notebook: Notebook) -> None:
    expect(cell(notebook, "card").locator(".derail-card")).to_contain_text("<script>")
    expect(cell(notebook, "result")).to_contain_text("<script>")
    chart = cell(notebook, "chart")
    marks = chart.locator("svg .mark-symbol path")
    expect(marks.first).to_be_attached()
    marks.first.hover(force=True)
    expect(notebook.page.locator("#vg-tooltip-element")).to_contain_text("<iframe")
    unharmed(notebook)


def test_the_report_shows_hostile_text_and_does_nothing(browser: Browser, tmp_path: Path) -> None:
    from hostile import hostile

    from analysis import report, report_html

    page_file = tmp_path / "report.html"
    page_file.write_text(report_html.render(report.make(hostile())), "utf-8")
    context = browser.new_context()
    asked: list[str] = []
    dialogs: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.goto(page_file.as_uri())
    page.wait_for_timeout(300)
    assert page.evaluate("() => window.pwned") is None
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert dialogs == []
    context.close()
