"""The tools that the calls of an Inspect sample were offered."""

from __future__ import annotations

from typing import Any

from loaders.formats._inspect_records import as_logged, opened
from loaders.formats._inspect_sample import Sample, may_refer
from loaders.run import Run
from loaders.values import as_object, as_text, is_array


class Offers:
    """Tells a run what its calls were offered, where that differs from the call before.

    ``toolsets``: fingerprints of tool definitions, by their text, as far as the log was read.
    """

    def __init__(self, run: Run, sample: Sample, toolsets: dict[bytes, str]) -> None:
        self._run, self._sample, self._toolsets = run, sample, toolsets
        self._tools: bytes | str | None = None

    def tell(self, tools: Any) -> None:
        """The definitions that the next call was offered."""
        logged = as_logged(tools)
        if logged == self._tools:
            return
        known = self._toolsets.get(logged) if isinstance(logged, bytes) else None
        if known is not None:
            self._tools = logged
            self._run.offers(known)
            return
        tools = opened(tools)
        if not is_array(tools):
            return
        self._tools = logged
        toolset = self._run.tools(
            (as_text(tool.get("name")), as_text(tool.get("description")), tool.get("parameters"))
            for tool in map(as_object, self._sample.resolve(tools))
        )
        if isinstance(logged, bytes) and not may_refer(logged):
            self._toolsets[logged] = toolset
