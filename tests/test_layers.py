"""What the import contracts can't express: formats know nothing of each other or of frameworks."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FORMATS = Path(__file__).parent.parent / "loaders" / "formats"
ALLOWED = {"loaders", "msgspec", "polars", "__future__"} | set(sys.stdlib_module_names)


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def owner(module: str) -> str:
    """``_inspect_parts`` belongs to ``inspect``: the longest format whose name it carries."""
    names = [file.stem for file in FORMATS.glob("[!_]*.py") if module.startswith(f"_{file.stem}_")]
    return max(names, key=len, default=module)


def test_a_format_imports_no_other_format() -> None:
    strangers = [
        (file.name, module)
        for file in FORMATS.glob("*.py")
        for module in imports_of(file)
        if module.startswith("loaders.formats.")
        and owner(module.rpartition(".")[2]) != owner(file.stem)
    ]
    assert strangers == []


def test_a_format_imports_no_framework() -> None:
    roots = {
        (file.name, root)
        for file in FORMATS.glob("*.py")
        for root in {module.partition(".")[0] for module in imports_of(file)}
    }
    assert len(roots) > 20
    assert {pair for pair in roots if pair[1] not in ALLOWED} == set()


def test_importing_both_packages_imports_nothing_heavy() -> None:
    heavy = (
        *("altair", "ipywidgets", "sklearn", "pandas", "scipy", "joblib", "yaml", "rich"),
        *("numpy", "great_tables", "tqdm", "cyclopts"),
    )
    code = (
        "import sys, loaders, analysis; "
        f"print([m for m in {heavy} if m in sys.modules]); "
        "print([n for n in analysis.__all__ if getattr(analysis, n).__name__.split('.')[-1] != n]); "
        "print(set(analysis.__all__) == set(dir(analysis)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]", "True"]
