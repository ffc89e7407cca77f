"""One JupyterLab and one Chromium for all tests here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab import CHROMIUM_FLAGS, Lab, Notebook, chromium, opened
from playwright.sync_api import Browser, expect, sync_playwright

expect.set_options(timeout=20_000)  # a busy machine is no failure


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; tests skip where it is absent, but not in CI."""
    found = chromium()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is absent, and in CI no browser test may skip")
        pytest.skip(
            "chromium is not installed: apt-get install -y --no-install-recommends chromium"
        )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=list(CHROMIUM_FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The server, started only where there is a browser."""
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


Open = Callable[..., Notebook]


@pytest.fixture(scope="session")
def open_notebook(browser: Browser, lab: Lab) -> Iterator[Open]:
    """``open_notebook(path)`` opens a notebook of the server or of the repository."""
    with ExitStack() as pages:

        def open_one(path: Path, size: tuple[int, int] = (1280, 900)) -> Notebook:
            inside = path if path.is_relative_to(lab.files) else lab.adopt(path)
            return pages.enter_context(opened(browser, lab, inside, size))

        yield open_one
