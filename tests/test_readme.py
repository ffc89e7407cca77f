"""The README says what is true: its table of formats, its commands, its links."""

from __future__ import annotations

import re
from pathlib import Path

import loaders

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def format_table() -> str:
    """The table of formats as it must stand in the README (paste it there when it differs)."""
    frame = loaders.available()
    gives = frame.columns[2:]
    lines = [
        f"| format | what | {' | '.join(gives)} |",
        f"|---|---|{'---|' * len(gives)}",
    ]
    for row in frame.iter_rows(named=True):
        marks = " | ".join("yes" if row[name] else "–" for name in gives)
        lines.append(f"| `{row['format']}` | {row['title']} | {marks} |")
    return "\n".join(lines)


def test_the_table_of_formats_is_that_of_the_loaders() -> None:
    shown = README.partition("<!-- formats -->")[2].partition("<!-- /formats -->")[0].strip()
    assert shown == format_table()


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) >= 4
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_both_commands_are_single_lines() -> None:
    blocks = re.findall(r"<!-- (main job|tests) -->\n```sh\n(.*?)\n```", README, re.DOTALL)
    assert [name for name, _ in blocks] == ["main job", "tests"]
    assert all("\n" not in command for _, command in blocks)


def test_python_in_the_readme_runs() -> None:
    namespace: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        placed = code.replace('"sample_logs', f'"{ROOT}/sample_logs')
        exec(compile(placed, "README.md", "exec"), namespace)
    assert len(namespace["gain"].runs("gained")) > 0  # type: ignore[attr-defined]
    assert namespace["account"].lost.is_empty()  # type: ignore[attr-defined]
    sent = namespace["runs"].steps.collect()["thinking_sent"]  # type: ignore[attr-defined]
    assert sent.null_count() == 0
