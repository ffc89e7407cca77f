"""Where test data lies, and what to do where it doesn't."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from generator import faultless, made, truth

import loaders

__all__ = ["faultless", "made", "truth"]  # fixtures of what tests sample logs
collect_ignore = ["peers"]  # scripts that run in environments of their own
if "PYTEST_XDIST_WORKER" in os.environ:
    collect_ignore.append("browser")  # one server and one browser: pytest tests/browser, by itself
ROOT = Path(__file__).parent.parent
REAL_LOGS = ROOT.parent / "shared" / "real_logs"


@pytest.fixture(scope="session")
def real_logs() -> Path:
    """The folder of real public logs; tests that need it skip where it is absent, but not in CI."""
    if not REAL_LOGS.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{REAL_LOGS} is absent, and in CI no test on real logs may skip")
        pytest.skip("the folder of real public logs is not on this machine")
    return REAL_LOGS


@pytest.fixture(autouse=True)
def _what_tests_of_formats_load_holds_to_the_battery(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variant that a test of a format writes and loads goes through the rules on tables."""
    if request.path.parent.name != "formats":
        return
    load = loaders.load

    def checked(paths: Any, *more: Any, **options: Any) -> loaders.Trajectories:
        import battery  # which itself takes what stands above from here

        runs = load(paths, *more, **options)
        if runs.trajectories.collect()["source"].is_in(_CHECKED).all():
            return runs
        case = battery.case_of("variant", Path(), runs)
        _CHECKED.update(case.trajectories["source"])
        for rule in battery.RULES_OF_A_TABLE:
            declared = {(rule.__name__, name) for name in case.trajectories["format"]}
            if not declared & battery.exceptions().keys():
                rule(case)
        return runs

    monkeypatch.setattr(loaders, "load", checked)


_CHECKED: set[str] = set()
