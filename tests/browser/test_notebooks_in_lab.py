"""The notebooks as readers meet them: opened in JupyterLab, "Run All", no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import ROOT, Notebook
from playwright.sync_api import expect

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHART = "application/vnd.vegalite.v5+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
_MARKS = "svg .mark-rect path, svg .mark-line path, svg .mark-symbol path"


def outputs_of(notebook: Notebook) -> list[dict[str, Any]]:
    """What the cells put out, as the notebook would be saved."""
    cells = notebook.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells"
    )
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code), "each cell was run"
    return [output for cell in code for output in cell["outputs"]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_promises(
    path: Path, open_notebook: Callable[..., Notebook]
) -> None:
    notebook = open_notebook(path)
    notebook.run_all(300)
    outputs = outputs_of(notebook)
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    results = [output for output in outputs if output["output_type"] == "execute_result"]
    shown = [
        kind for output in results for kind in output["data"]
    ]  # without the progress bar, gone by now
    assert CHART in shown or WIDGET in shown
    areas = notebook.page.locator(".jp-OutputArea-output")
    expect(areas.filter(has=notebook.page.locator(_MARKS))).to_have_count(shown.count(CHART))
    expect(areas.filter(has=notebook.page.locator(".derail"))).to_have_count(shown.count(WIDGET))
    notebook.assert_clean()
