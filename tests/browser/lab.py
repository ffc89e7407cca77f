"""A real JupyterLab in a real browser: one server, one browser, a page of its own for each notebook.

No request may leave the machine: each page aborts foreign ones and remembers that they were tried.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Dialog, Page, Request, Route, WebSocket

ROOT = Path(__file__).parent.parent.parent
TOKEN = "test"
_SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/apputils-extension/themes": {"theme": "JupyterLab Light"},
}
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Where Debian's Chromium is, if it is there."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Lab:
    """A JupyterLab server over a folder that holds the sample logs and what tests put there."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        (self.files / "sample_logs").symlink_to(ROOT / "sample_logs")
        settings = folder / "settings"
        for name, values in _SETTINGS.items():
            target = settings / f"{name}.jupyterlab-settings"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(values))
        self._log = folder / "server.log"
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        homes = {
            name: str(folder / name.lower())
            for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        }  # fmt: skip
        homes["JUPYTERLAB_SETTINGS_DIR"] = str(settings)
        homes["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
            f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
            "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={self.files}",
        ]  # fmt: skip
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **homes}, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()

    def _wait(self, seconds: float = 90) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/api?token={TOKEN}"):
                return
            time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start:\n{self._log.read_text()[-3000:]}")

    def stop(self) -> None:
        """End the server and with it all kernels."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
            return
        self._process.kill()
        self._process.wait()

    def write(self, name: str, *cells: str) -> Path:
        """A notebook of these code cells in the server's folder."""
        notebook = {
            "cells": [
                {
                    "cell_type": "code",
                    "id": f"cell{number}",
                    "metadata": {},
                    "execution_count": None,
                    "outputs": [],
                    "source": source,
                }
                for number, source in enumerate(cells)
            ],
            "metadata": {
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook))
        return path

    def adopt(self, notebook: Path) -> Path:
        """A copy of a notebook of the repository, at the same place in the server's folder."""
        target = self.files / notebook.resolve().relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebook, target)
        return target


class Notebook:
    """A notebook that is open in the browser."""

    def __init__(self, page: Page, lab: Lab) -> None:
        self.page = page
        self.foreign: list[str] = []
        self.dialogs: list[str] = []
        self.script_errors: list[str] = []
        self._lab = lab
        page.context.route("**/*", self._allow_only_the_server)
        page.on("dialog", self._dismiss)
        page.on("websocket", self._watch_socket)
        page.on("pageerror", lambda error: self.script_errors.append(str(error)))

    def _allow_only_the_server(self, route: Route, request: Request) -> None:
        if request.url.startswith((self._lab.url, "data:", "blob:")):
            route.continue_()
        else:
            self.foreign.append(request.url)
            route.abort()

    def _watch_socket(self, socket: WebSocket) -> None:
        if not socket.url.startswith(self._lab.url.replace("http", "ws", 1)):
            self.foreign.append(socket.url)

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, path: Path) -> None:
        """Open it and wait until its kernel answers."""
        name = path.relative_to(self._lab.files).as_posix()
        self.page.goto(f"{self._lab.url}/lab/tree/{name}?token={TOKEN}&reset")
        self.page.wait_for_selector(".jp-CodeCell", timeout=60_000)
        # The indicator says idle before the kernel is connected, so ask the kernel itself.
        self._command(
            "const p = app.shell.currentWidget; await p.context.ready; await p.sessionContext.ready;"
            "await p.sessionContext.session.kernel.info;",
            60,
        )

    def _command(self, body: str, seconds: float) -> Any:
        """Run JavaScript with ``app`` in the page, for so long at most."""
        return self.page.evaluate(
            "([body, ms]) => { const app = window.jupyterapp;"
            "const work = new Function('app', `return (async () => { ${body} })()`)(app);"
            "return Promise.race([work, new Promise((_, no) => setTimeout(() => no(new Error('too slow')), ms))]); }",
            [body, seconds * 1000],
        )

    def run_all(self, seconds: float = 120) -> None:
        """Run all cells and wait until the last is done."""
        self._command("await app.commands.execute('notebook:run-all-cells');", seconds)

    def errors(self) -> list[str]:
        """The errors in the outputs, as text."""
        return self.page.eval_on_selector_all(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'],"
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']",
            "found => found.map(each => each.textContent).filter(text => text.includes('Traceback'))",
        )

    def set_theme(self, dark: bool) -> None:
        """JupyterLab's own light or dark theme."""
        name = "JupyterLab Dark" if dark else "JupyterLab Light"
        self._command(
            f"await app.commands.execute('apputils:change-theme', {{theme: '{name}'}});", 20
        )
        self.page.wait_for_selector(
            f"body[data-jp-theme-light='{str(not dark).lower()}']", state="attached"
        )

    def focus_outputs(self) -> None:
        """Hide the side bars, so that a small window shows the notebook."""
        self._command(
            "if (app.shell.leftCollapsed === false) app.shell.collapseLeft();"
            "app.shell.collapseRight();",
            10,
        )

    def screenshot(self, path: Path, selector: str | None = None) -> None:
        """The window, or the first element of that selector, as PNG."""
        if selector is None:
            self.page.screenshot(path=path)
        else:
            self.page.locator(selector).first.screenshot(path=path)

    def assert_clean(self) -> None:
        """Nothing failed, nothing was asked of another host, nothing popped up."""
        assert self.errors() == []
        assert self.foreign == []
        assert self.dialogs == []
        assert self.script_errors == []


@contextmanager
def opened(browser: Browser, lab: Lab, path: Path, size: Sequence[int] = (1280, 900)) -> Generator[Notebook]:  # fmt: skip
    """The notebook in a page of its own, closed afterwards; its kernel is shut down."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, accept_downloads=False
    )
    context.set_default_timeout(20_000)
    try:
        notebook = Notebook(context.new_page(), lab)
        notebook.open(path)
        yield notebook
        with suppress(Exception):
            notebook._command("await app.shell.currentWidget.sessionContext.shutdown();", 10)
    finally:
        context.close()
