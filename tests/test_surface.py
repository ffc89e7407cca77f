"""What users reach from ``analysis``: every call that the README names, with a runnable example."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import analysis

ROOT = Path(__file__).parent.parent
QUESTIONS = (
    (ROOT / "README.md").read_text().partition("| question | call |")[2].partition("\n\n")[0]
)
CALLS = re.findall(r"`([a-z]+)\.([a-z_]+)`", QUESTIONS)


def test_the_readme_names_calls() -> None:
    assert len(CALLS) > 25


@pytest.mark.parametrize(("module", "name"), CALLS)
def test_a_call_of_the_readme_is_there_and_shown_at_work(module: str, name: str) -> None:
    assert module in analysis.__all__
    found = getattr(getattr(analysis, module), name)
    assert ">>>" in (found.__doc__ or "") or (module, name) in NO_EXAMPLE


NO_EXAMPLE = {
    ("localize", "drops"),  # needs more runs of each outcome than any sample that loads in no time
    ("perturbations", "rates"),
}


@pytest.mark.parametrize("module", ["thinking", "breakdown", "ablation", "perturbations"])
def test_all_that_is_public_is_there_and_says_what_it_is(module: str) -> None:
    found = importlib.import_module(f"analysis.{module}")
    for name in found.__all__:
        value = getattr(found, name)
        assert value is not None
        if callable(value):
            assert value.__doc__, name
