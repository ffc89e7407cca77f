"""The notebooks: short, stripped, and as good on other logs as on the ones that come with them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders.errors import DerailError

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATH = re.compile(r'"\.\./sample_logs/[^"]*"')
MAY_FAIL = "raises-exception"
"""JupyterLab goes on after a cell of this tag, and so the rest still answers."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path: Path) -> list[dict[str, Any]]:
    """The cells, their source as one text."""
    cells = json.loads(path.read_text())["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def code_of(path: Path) -> list[dict[str, Any]]:
    """The code cells alone."""
    return [cell for cell in cells_of(path) if cell["cell_type"] == "code"]


@every_notebook
def test_it_is_short_stripped_and_says_what_is_simulated(path: Path) -> None:
    cells = cells_of(path)
    assert len(cells) < 15
    assert all(cell["execution_count"] is None and cell["outputs"] == [] for cell in code_of(path))
    assert cells[0]["source"].startswith("# ")
    assert "**simulated**" in cells[0]["source"]


@every_notebook
def test_the_first_code_cell_holds_the_only_path(path: Path) -> None:
    first, *others = (cell["source"] for cell in code_of(path))
    assert len(PATH.findall(first)) == 1
    if not path.stem.startswith("08"):  # which shows a recording of its own, too
        assert not [source for source in others if "sample_logs" in source]


def show(value: Any) -> str:
    """What a notebook would show of a value, without a browser."""
    for name in ("_repr_mimebundle_", "_repr_html_"):
        if (renders := getattr(value, name, None)) is not None:
            return str(renders())
    return repr(value)


def run(cells: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Exception | None]]:
    """Each cell with what it raised, run one after the other as "Run All" does."""
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in cells:
        tree = ast.parse(cell["source"])
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        raised: Exception | None = None
        try:
            exec(compile(tree, "cell", "exec"), names)
            if isinstance(last, ast.Expr):
                show(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
        except Exception as error:  # noqa: BLE001 - whatever a reader would see
            raised = error
        yield cell, raised
        if raised is not None and MAY_FAIL not in cell["metadata"].get("tags", []):
            return


def complaints(notebook: Path, logs: str) -> list[str]:
    """What "Run All" ends in on these logs that is not one sentence of ours in a cell that may fail."""
    cells = code_of(notebook)
    cells[0]["source"] = PATH.sub(lambda _: repr(logs), cells[0]["source"])
    return [
        f"{type(raised).__name__}: {raised}\n{cell['source']}"
        for cell, raised in run(cells)
        if raised is not None
        and not (isinstance(raised, DerailError) and MAY_FAIL in cell["metadata"].get("tags", []))
    ]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of notebooks in which figures may be written, beside the sample logs."""
    (tmp_path / "sample_logs").symlink_to(ROOT / "sample_logs")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")


SAMPLES = ("../sample_logs/frameworks/smolagents",)  # no arms, and no outcomes
REAL = (
    "bfcl/results/{arm}/result",
    "tau_bench/historical_trajectories/gpt-4o-airline.json",
    "claude_code",
)


@every_notebook
@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("logs", SAMPLES)
def test_it_runs_on_other_samples(path: Path, logs: str) -> None:
    assert complaints(path, logs) == []


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("path", "logs"),
    # The eighth accounts for every value of a log, which is minutes of work for one as large as BFCL's.
    [
        (path, logs)
        for logs in REAL
        for path in NOTEBOOKS
        if not ("bfcl" in logs and path.stem[:2] == "08")
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_it_runs_on_real_logs(path: Path, logs: str, real_logs: Path) -> None:
    assert complaints(path, str(real_logs / logs)) == []
