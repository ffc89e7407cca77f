"""Time of the hazard fit against statsmodels on the same rows, as a ratio in one run.

``uv run python benchmarks/hazard.py [ROWS]``: a million person-steps with eight covariates by default.
Both fit the same model with errors clustered by task; the largest difference of coefficients and of
standard errors is printed beside the ratio.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
import polars as pl
import statsmodels.api as sm

from analysis.regression import fit, patterns

COVARIATES = 8
TASKS = 500


def rows(count: int) -> pl.DataFrame:
    """Binary exposures, a few of them rare, and events of about one in twenty."""
    rng = np.random.default_rng(1)
    x = (rng.random((count, COVARIATES)) < np.linspace(0.05, 0.5, COVARIATES)).astype(float)
    task = np.sort(rng.integers(0, TASKS, count))
    eta = -3 + x @ np.linspace(-0.5, 0.8, COVARIATES) + rng.normal(0, 0.6, TASKS)[task]
    event = rng.random(count) < 1 / (1 + np.exp(-eta))
    names = [f"x{n}" for n in range(COVARIATES)]
    return pl.DataFrame({"event": event, "task": task, **dict(zip(names, x.T, strict=True))})


def main() -> None:
    """Fit both and print the ratio of their times."""
    frame = rows(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    names = [name for name in frame.columns if name.startswith("x")]
    started = time.perf_counter()
    ours = fit(patterns(frame, "event", names, "task"))
    taken = time.perf_counter() - started
    x, y = sm.add_constant(frame.select(names).to_numpy()), frame["event"].to_numpy().astype(float)
    groups = frame["task"].to_numpy()
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sm.GLM(y, x, sm.families.Binomial()).fit(
            cov_type="cluster", cov_kwds={"groups": groups}, tol=1e-12
        )
    known = time.perf_counter() - started
    coefficients = np.abs(ours.coefficients - theirs.params).max()
    errors = np.abs(ours.standard_errors - theirs.bse).max()
    print(f"rows {frame.height:,}, covariates {COVARIATES}, tasks {TASKS}")
    print(f"time / statsmodels GLM: {taken / known:.3f}")
    print(f"largest difference: coefficients {coefficients:.1e}, standard errors {errors:.1e}")


if __name__ == "__main__":
    main()
