"""Tables as CSV files in a folder, for frameworks that work in a shell."""

from __future__ import annotations

from pathlib import Path

from world import State


def write_tables(state: State, folder: Path) -> None:
    """Each table as a CSV file."""
    for name, table in state.items():
        lines = [",".join(str(cell) for cell in row) for row in [table["columns"], *table["rows"]]]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_tables(names: list[str], folder: Path) -> dict[str, list[str]]:
    """The lines of each table's file."""
    return {n: (folder / f"{n}.csv").read_text(encoding="utf-8").splitlines() for n in names}
