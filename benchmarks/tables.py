"""Results in Markdown pages: what stands between two comments that bear a name is put there anew."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).with_name("README.md")


def put(name: str, text: str, page: Path = PAGE) -> None:
    """Put a text between ``<!-- name -->`` and ``<!-- /name -->`` of a page.

    Raises ``ValueError`` where the page has no such place.
    """
    before, start, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not end:
        raise ValueError(f"{page} has no place marked <!-- {name} --> ... <!-- /{name} -->")
    page.write_text(f"{before}{start}{text}\n{end}{after}")
