"""How far a long work is, shown once it takes long enough to be asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


class ProgressBar:
    """A bar that shows itself after a second, or at once; tqdm, slow to import, comes along with it."""

    def __init__(self, show: bool | None, **look: Any) -> None:
        self._is_silent = show is False
        self._shows_from = time.monotonic() + (0 if show else 1)
        self._look = look
        self._done = 0
        self._bar: Any = None

    def __enter__(self) -> ProgressBar:
        """Show it at once if that is wanted."""
        self.update(0)
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if self._is_silent or time.monotonic() < self._shows_from:
            return
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(**self._look, leave=False)
            count = self._done
        self._bar.update(count)

    @contextmanager
    def share(self, size: int) -> Generator[Callable[[int], None]]:
        """So much is done at the end of this; what it gives is told how much of it is, on the way."""
        left = size

        def advance(count: int) -> None:
            nonlocal left
            count = min(count, left)  # unpacked it may be more than was known
            left -= count
            self.update(count)

        yield advance
        self.update(left)


def progress_bar(
    total: int, progress: bool | None, doing: str = "reading", unit: str = "B"
) -> ProgressBar:
    """A bar that shows itself after a second; at once if ``progress``, never if that is False."""
    return ProgressBar(progress, total=total, unit=unit, desc=doing, unit_scale=unit == "B")
