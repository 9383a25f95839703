"""Statistics over the seeds of a point: the one place where a spread or an interval is defined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

LEVEL = 0.95
"""Coverage of the confidence intervals."""


def gap(values: NDArray[np.float64], expected: float) -> float | None:
    """How far the mean of `values` `(S,)` is from `expected`, in standard errors of the mean.

    None where the seeds have no spread, or there is only one.
    """
    if np.ptp(values) == 0:
        return None
    found = over_seeds(values)
    error = float(found["std"]) / np.sqrt(len(values)) if "std" in found else 0.0
    return float(found["mean"] - expected) / error if error else None


def over_seeds(values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Mean, spread and interval over the last axis.

    Args:
        values: `(..., S)`, one per seed.

    Returns:
        `mean`, `std` (ddof=1), `ci_low`, `ci_high` (Student's t interval of the mean) and `n`, each
        `(...)`. With one seed there is no spread: `mean` and `n` only.
    """
    values = np.asarray(values, dtype=np.float64)
    count = values.shape[-1]
    mean = values.mean(-1)
    found = {"mean": mean, "n": np.full(mean.shape, float(count))}
    if count > 1:
        std = values.std(-1, ddof=1)
        half = student_t.ppf((1 + LEVEL) / 2, count - 1) * std / np.sqrt(count)
        found |= {"std": std, "ci_low": mean - half, "ci_high": mean + half}
    return found
