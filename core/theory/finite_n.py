"""The forecast at finite n: how a perfect learner's curves scatter from sample sizes alone.

A learner that only resamples its training set is a Wright-Fisher process with selection on reward
levels.
"""

from __future__ import annotations

from dataclasses import dataclass

from luceloop.core.theory.selection import Array


@dataclass(frozen=True)
class FiniteN:
    """How one metric of single seeds scatters when a perfect learner has finitely many samples."""

    mean: Array
    """Mean over replicates `(T+1,)`; NaN where there is no value."""
    std: Array
    """Their spread (ddof=1) `(T+1,)`."""
    low: Array
    """Their 2.5 % quantile `(T+1,)`."""
    high: Array
    """Their 97.5 % quantile `(T+1,)`."""
    replicates: int
    """How many were simulated."""
