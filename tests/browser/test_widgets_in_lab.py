"""The widgets as people meet them: JupyterLab, a mouse, a keyboard, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pypdf
import pytest
from lab import Lab, Notebook
from playwright.sync_api import Locator, expect

TESTS = Path(__file__).parent.parent
LOGS = TESTS.parent / "sample_logs" / "frameworks" / "mini_swe_agent"
SETUP = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
import loaders
from analysis.widgets import *
from small import runs_of
from test_widgets import study
runs = study()
events = [
    {{"run": 0, "seq": n, "step": n // 4, "kind": ("thinking", "message", "tool_call", "tool_result")[n % 4],
     "tool": f"t{{n % 7}}" if n % 4 > 1 else None, "text": "x", "is_error": n % 997 == 995}}
    for n in range(5_000)
]
long_run = runs_of([{{"run": 0, "events": 5_000}}], [], events)
logs = loaders.load({str(LOGS)!r})
"""
WIDGETS = {
    "from a cell": "Explorer(logs)",
    "keyboard": "Explorer(runs)",
    "filters": "Explorer(runs)",
    "themes": "Explorer(runs)",
    "finder": "BreakdownFinder(runs, by='arm')",
    "builder": "AblationBuilder(runs)",
    "studio": "FigureStudio(runs)",
    "long": "Timeline(long_run)",
}


@pytest.fixture(scope="module")
def notebook(lab: Lab, open_notebook: Callable[..., Notebook]) -> Notebook:
    """One notebook with a widget in each cell, because a notebook takes seconds to open."""
    opened = open_notebook(lab.write("widgets.ipynb", SETUP, *WIDGETS.values()))
    opened.run_all()
    assert opened.errors() == []
    return opened


@pytest.fixture
def widget(notebook: Notebook, request: pytest.FixtureRequest) -> Iterator[Locator]:
    """The widget that the test names by ``@shows``; nothing may have gone wrong when it is done."""
    found = notebook.page.locator(".jp-CodeCell").nth(1 + list(WIDGETS).index(request.param))
    found.scroll_into_view_if_needed()
    yield found
    notebook.assert_clean()


def shows(name: str) -> pytest.MarkDecorator:
    """Which widget of the notebook a test is about."""
    return pytest.mark.parametrize("widget", [name], indirect=True)


def brush(widget: Locator, first: int, last: int, steps: int) -> None:
    """Drag over the step chart from one step to another."""
    page = widget.page
    plot = widget.locator(".stepchart .plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box
    left, width = 46, box["width"] - 46 - 12

    def x(step: int) -> float:
        return box["x"] + left + width * (step + 0.5) / steps

    page.mouse.move(x(first), box["y"] + 80)
    page.mouse.down()
    page.mouse.move(x(last), box["y"] + 80, steps=4)
    page.mouse.up()


@shows("from a cell")
def test_clicks_lead_from_a_cell_to_the_raw_record(widget: Locator) -> None:
    page = widget.page
    expect(widget.locator(".timeline")).to_contain_text("Click a run to see its events.")
    expect(widget.locator(".timeline canvas:visible")).to_have_count(0)
    widget.locator(".heatmap td button").nth(1).click()
    expect(widget.locator(".heatmap td button[aria-pressed=true]")).to_have_count(1)
    widget.locator(".runlist tbody tr").first.click()
    strip = widget.locator(".timeline .strip")
    expect(strip).to_have_attribute("role", "slider")
    expect(strip).to_be_visible()
    box = strip.bounding_box()
    assert box
    page.mouse.click(box["x"] + 50 + 5, box["y"] + 18 + 15 + 6)  # the first event, in the lane says
    expect(widget.locator(".eventview h3")).to_contain_text("system")
    page.keyboard.press("t")
    expect(widget.locator(".eventview h3")).to_contain_text("tool call")
    expect(strip).to_have_attribute(
        "aria-valuetext", widget.locator(".timeline .where").inner_text()
    )
    expect(widget.locator(".eventview pre[aria-label='raw record']")).to_contain_text('"function"')
    where = widget.locator(".timeline .where").inner_text()
    page.keyboard.press("ArrowRight")
    expect(widget.locator(".timeline .where")).not_to_have_text(where)


@shows("keyboard")
def test_the_keyboard_alone_reaches_everything_in_the_explorer(widget: Locator) -> None:
    page = widget.page
    widget.get_by_label("condition").focus()
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        here = page.evaluate(
            "() => { const e = document.activeElement;"
            "return (e.closest('.derail') ?? e).className.replace('derail', '').replace('dark', '').trim().split(' ')[0] }"
        )
        reached.append(here)
    order = [name for at, name in enumerate(reached) if at == 0 or reached[at - 1] != name]
    assert order[:3] == ["controls", "heatmap", "runlist"]
    cell = widget.locator(".heatmap td button[tabindex='0']")
    cell.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(widget.locator(".runlist h3")).to_have_text("b · look_up")
    expect(widget.locator(".heatmap td button[aria-pressed=true]")).to_be_focused()
    widget.locator(".runlist tr[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    strip = widget.locator(".timeline .strip")
    # It comes with the run, from Python: what is hidden takes no focus.
    expect(strip).to_be_visible()
    strip.focus()
    page.keyboard.press("Home")
    expect(widget.locator(".timeline .where")).to_contain_text("event 0 of 11")
    outline = strip.evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline == "solid", "what has the focus shows it"
    unlabelled = page.evaluate(
        "() => [...document.querySelectorAll('.derail button, .derail input, .derail select, .derail [tabindex]')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.innerText || e.labels?.length || e.title)).map(e => e.outerHTML)"
    )
    assert unlabelled == []


@shows("filters")
def test_filters_and_search_narrow_what_is_shown(widget: Locator) -> None:
    widget.get_by_label("perturbation").select_option("any code (12)")
    expect(widget.locator(".runlist .head .muted")).to_contain_text("12 runs")
    widget.get_by_label("search in text").fill("value 2 of 4")
    expect(widget.locator(".runlist .head .muted")).to_contain_text("1 runs")
    expect(widget.get_by_label("search in text")).to_be_focused()
    widget.get_by_label("outcome", exact=True).select_option("success (24)")
    expect(widget.locator(".heatmap .empty")).to_have_text("No runs pass these filters.")


@shows("finder")
def test_brushed_steps_open_pairs_side_by_side(widget: Locator) -> None:
    page = widget.page
    brush(widget, 0, 1, steps=3)
    expect(widget.locator(".runlist h3")).to_have_text("Pairs that part at steps 0 to 1")
    expect(widget.locator(".runlist tbody tr")).to_have_count(6)
    widget.locator(".runlist tbody tr").nth(2).click()
    widget.get_by_role("button", name="first difference").click()
    expect(widget.locator(".eventview h3")).to_contain_text("tool result")
    expect(widget.locator(".timeline .where")).to_contain_text("a · t")
    widget.locator(".timeline .strip").focus()
    page.keyboard.press("ArrowDown")
    expect(widget.locator(".timeline .where")).to_contain_text("perturbed: http_error")
    expect(widget.locator(".eventview pre[aria-label=text]")).to_have_text(
        "Error: connection refused"
    )
    widget.locator(".stepchart .plot").focus()
    page.keyboard.press("Escape")
    expect(widget.locator(".runlist h3")).to_have_text("Pairs that part at any step")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(widget.locator(".runlist h3")).to_have_text("Pairs that part at steps 0 to 1")


@shows("builder")
def test_an_ablation_is_built_by_hand(widget: Locator) -> None:
    expect(widget.locator(".effects tbody th")).to_have_text("b against a")
    widget.get_by_label("compared with").select_option("b")
    expect(widget.locator(".effects tbody th")).to_have_text("a against b")
    expect(widget.locator(".code pre")).to_contain_text('baseline="b"')
    widget.locator(".effects tbody tr").click()
    expect(widget.locator(".runlist h3")).to_have_text("Runs behind a against b")
    widget.get_by_label("outcome", exact=True).select_option("what else differs")
    expect(widget.locator(".effects tbody th", has_text="thinking_dropped")).to_be_visible()
    widget.get_by_label("trial").uncheck()
    expect(widget.locator(".code pre")).to_contain_text('pair=["task_id"]')


@shows("studio")
def test_a_figure_leaves_as_a_pdf_that_opens(widget: Locator, lab: Lab) -> None:
    expect(widget.locator(".preview h3")).to_contain_text("3.2")
    widget.get_by_label("file name").fill("my figure")
    widget.get_by_label("PNG").uncheck()
    widget.get_by_role("button", name="export").click()
    expect(widget.locator(".note").first).to_contain_text("my figure.pdf")
    written = lab.files / "figures"
    assert not (written / "my figure.png").exists()
    pdf = pypdf.PdfReader(written / "my figure.pdf")
    assert len(pdf.pages) == 1
    assert abs(float(pdf.pages[0].mediabox.width) - 3.25 * 72) <= 3  # points
    assert "success" in pdf.pages[0].extract_text()


@shows("long")
def test_a_timeline_of_5000_events_is_walked_without_waiting(widget: Locator) -> None:
    page = widget.page
    strip = widget.locator(".timeline .strip")
    strip.focus()
    spent = strip.evaluate(
        "async s => { const t = performance.now();"
        "for (let n = 0; n < 50; n++) { s.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));"
        "await new Promise(requestAnimationFrame); } return (performance.now() - t) / 50; }"
    )
    assert spent < 250, f"{spent:.0f} ms per key: a frame of 16, and room for a busy machine"
    page.keyboard.press("e")
    expect(widget.locator(".timeline .where")).to_contain_text("flagged as error")
    expect(widget.locator(".timeline canvas.overview")).to_be_visible()
    page.keyboard.press("0")
    expect(widget.locator(".timeline canvas.overview")).to_be_hidden()


@shows("themes")
def test_both_themes_give_readable_text(widget: Locator, notebook: Notebook) -> None:
    page = widget.page
    widget.locator(".runlist tbody tr").first.click()
    contrast = (
        "() => [...document.querySelectorAll('.derail button, .derail td, .derail th, .derail .muted, .derail h3')]"
        ".filter(e => e.innerText?.trim() && e.offsetParent && !e.disabled).map(e => {"
        "const pen = document.createElement('canvas').getContext('2d');"
        "const rgb = colour => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };"
        "let behind = [255, 255, 255]; for (let up = e; up; up = up.parentElement) { const c = rgb(getComputedStyle(up).backgroundColor); if (c[3] > 200) { behind = c; break; } }"
        "const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };"
        "const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind)].sort((x, y) => y - x);"
        "return [e.innerText.slice(0, 40), Math.round(100 * (a + .05) / (b + .05)) / 100]; }).filter(([, ratio]) => ratio < 4)"
    )
    for dark in (False, True):
        notebook.set_theme(dark)
        page.wait_for_timeout(200)
        assert page.evaluate(contrast) == []
