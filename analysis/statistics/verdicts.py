"""Verdicts: what seeds say of a forecast or a bound, as numbers and in words.

Nothing here is certain of what it has not seen: one seed decides nothing, seeds without spread are
no proof, and where many iterations are looked at, the level is divided among them.

Axes: S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from luceloop.analysis.statistics.seeds import LEVEL, over_seeds
from luceloop.core.theory.finite_n import FiniteN

Array = NDArray[np.float64]
RESAMPLED = 5000
"""Groups of simulated seeds that a group of seeds is compared with."""
ROUNDING = 1e-9
"""Margins above the negative of this count as 0: they are differences of sums of many terms."""
Null = Literal["perfect learners", "infinite samples", "nothing"]
"""What a bound is tested against: who may be how far beyond it."""


@dataclass(frozen=True)
class Gap:
    """How far seeds are, on average, from what is expected of them."""

    value: float
    """Their mean minus what is expected: positive where they are above it."""
    low: float
    high: float
    """Ends of its 95 % interval; NaN with one seed."""
    seeds: int

    @property
    def words(self) -> str:
        """The verdict, with the interval it rests on."""
        if self.seeds < 2:
            return f"undecided: one seed ({self.value:+.3g})"
        ends = f"{self.low:+.3g} to {self.high:+.3g}"
        if self.high - self.low <= ROUNDING < abs(self.value):
            return f"undecided: no spread over seeds ({self.value:+.3g})"
        if self.low <= 0 <= self.high or abs(self.value) <= ROUNDING:
            verdict = "agrees" if self.seeds != 2 else "undecided: two seeds"
            return f"{verdict} ({ends})"
        side = "above" if self.value > 0 else "below"
        return f"{side} by {abs(self.value):.3g} ({ends})"


def gap(
    values: Array,
    expected: float,
    low: float = -math.inf,
    high: float = math.inf,
    level: float = LEVEL,
) -> Gap:
    """How far the mean of seeds is from an expected value that is known exactly.

    Args:
        values: `(S,)`.
        expected: what they are compared with.
        low: least value that the metric can have.
        high: largest value that it can have.
        level: of the interval, as in `over_seeds`.
    """
    found = over_seeds(values, low, high, level)
    if len(values) < 2:
        return Gap(float(found["mean"]) - expected, math.nan, math.nan, len(values))
    ends = (float(found["ci_low"]) - expected, float(found["ci_high"]) - expected)
    return Gap(float(found["mean"]) - expected, *ends, len(values))


@dataclass(frozen=True)
class SplitGap:
    """A gap in two parts: what finitely many samples explain, and what is the learner's."""

    whole: Gap
    """From the forecast with infinitely many samples."""
    from_n: Gap | None = None
    """A perfect learner's at these sample sizes from that forecast; None if not simulated."""
    learner: Gap | None = None
    """The seeds' from that perfect learner; None if not simulated."""


def split_gap(
    values: Array,
    expected: float,
    finite: tuple[float, float, int] | None,
    low: float = -math.inf,
    high: float = math.inf,
    level: float = LEVEL,
) -> SplitGap:
    """The gap of seeds from a forecast, split where a perfect learner at finite n was simulated.

    Args:
        values: `(S,)`.
        expected: the forecast with infinitely many samples.
        finite: mean, standard deviation and number of simulated seeds of a perfect learner.
        low: least value that the metric can have.
        high: largest value that it can have.
        level: of the seeds' intervals, as in `over_seeds`.
    """
    whole = gap(values, expected, low, high, level)
    if finite is None:
        return SplitGap(whole)
    mean, std, replicates = finite
    half = stats.norm.ppf((1 + LEVEL) / 2) * std / math.sqrt(replicates)
    from_n = Gap(mean - expected, mean - expected - half, mean - expected + half, replicates)
    return SplitGap(whole, from_n, _from_simulated(values, mean, std, replicates, level))


def _from_simulated(values: Array, mean: float, std: float, replicates: int, level: float) -> Gap:
    """Welch's interval of the seeds' mean minus the simulated one."""
    value, count = float(values.mean()) - mean, len(values)
    if count < 2:
        return Gap(value, math.nan, math.nan, count)
    own, theirs = values.var(ddof=1) / count, std**2 / replicates
    if own + theirs == 0:
        return Gap(value, value, value, count)
    freedom = (own + theirs) ** 2 / (own**2 / (count - 1) + theirs**2 / max(replicates - 1, 1))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(own + theirs)
    return Gap(value, value - half, value + half, count)


def values_at(finite: FiniteN | None, iteration: int) -> Array | None:
    """A simulated metric of single seeds at t `(R,)`; None where there is none."""
    if finite is None or finite.values is None or iteration >= finite.values.shape[1]:
        return None
    found: Array = finite.values[:, iteration]
    return None if np.isnan(found).any() else found


def at(finite: FiniteN | None, iteration: int) -> tuple[float, float, int] | None:
    """Mean, standard deviation and number of a simulated metric at t; None where there is none."""
    if finite is None or iteration >= len(finite.mean) or math.isnan(finite.mean[iteration]):
        return None
    return float(finite.mean[iteration]), float(finite.std[iteration]), finite.replicates


@dataclass(frozen=True)
class BoundVerdict:
    """Whether seeds keep to a bound of the theory, over all iterations together."""

    margin: float
    """The mean margin at the iteration that speaks most against the bound; negative: beyond it."""
    low: float
    high: float
    """Ends of its 95 % interval there; NaN with one seed."""
    iteration: int
    """Where that is."""
    below: int
    """Seeds beyond the bound there."""
    seeds: int
    p: float
    """One-sided p-value that the bound is kept, adjusted by Bonferroni for the iterations; NaN
    where no test is possible."""
    identity: bool = False
    """Whether the bound is an equality, which is not tested: noise breaks it half the time."""
    null: Null = "infinite samples"
    """Who may be beyond the bound: perfect learners as they were simulated, or nobody."""

    @property
    def violated(self) -> bool:
        """Whether it is: a true bound is marked so in at most 5 % of sweeps of perfect learners."""
        tested = not self.identity and self.null != "nothing"
        return tested and self.p < 1 - LEVEL

    @property
    def words(self) -> str:
        """The verdict."""
        if self.identity:
            return "an identity"
        if self.null == "nothing":
            return "not tested: finite n was not simulated"
        if self.seeds < 2:
            return "undecided: one seed"
        against = "" if self.null == "perfect learners" else ", against n=∞"
        if self.violated:
            return f"violated (p={self.p:.2g}{against})"
        return "undecided: no spread over seeds" if math.isnan(self.p) else f"kept{against}"


def judge_bound(
    margins: Mapping[int, Array],
    simulated: Mapping[int, Array] | None = None,
    *,
    identity: bool = False,
    is_biased: bool = False,
) -> BoundVerdict:
    """Test a bound by Student's one-sided test at each iteration, with Bonferroni over them.

    A bound is of laws; a perfect learner with finitely many samples can be a little beyond it, and
    seeds may be as far. Where such learners were simulated, as many of them must also be so far
    beyond it as rarely as the test says: few seeds of skewed margins are no normal sample.

    Args:
        margins: of the seeds, by iteration `(S,)`.
        simulated: of single seeds of a perfect learner, by iteration `(R,)`.
        identity: whether the bound is an equality for the point.
        is_biased: whether sampling alone moves margins below 0: then nothing is tested but against
            simulated seeds.
    """
    perfect = simulated or {}
    null: Null = "perfect learners" if margins.keys() <= perfect.keys() else "infinite samples"
    if is_biased and null != "perfect learners":
        null = "nothing"
    tests = {t: _p_below(own, perfect.get(t)) for t, own in margins.items()}
    worst, p = _worst(tests, {t: _beyond(own, perfect.get(t)) for t, own in margins.items()})
    found = gap(margins[worst], 0.0)
    below = int((margins[worst] < -ROUNDING).sum())
    ends = (math.nan, math.nan) if math.isnan(p) else (found.low, found.high)
    return BoundVerdict(found.value, *ends, worst, below, found.seeds, p, identity, null)


def _worst(tests: Mapping[int, float], beyond: Mapping[int, float]) -> tuple[int, float]:
    """The iteration that speaks most against a bound, and its p-value adjusted for all of them.

    Where no test finds a violation and at some iteration none was possible, nothing is decided.

    Args:
        tests: p-values by iteration; NaN where seeds are beyond what is allowed without a spread.
        beyond: the mean margin minus what is allowed, by iteration.
    """
    possible = [t for t, p in tests.items() if not math.isnan(p)]
    worst = min(possible, key=lambda t: (tests[t], beyond[t]), default=None)
    p = math.nan if worst is None else min(1.0, len(possible) * tests[worst])
    if worst is not None and (p < 1 - LEVEL or len(possible) == len(tests)):
        return worst, p
    return min(tests.keys() - set(possible), key=lambda t: beyond[t]), math.nan


def _allowed(simulated: Array | None) -> float:
    """How far a perfect learner's mean margin is below 0, as a number that is at most 0."""
    return 0.0 if simulated is None else min(0.0, float(simulated.mean()))


def _beyond(margins: Array, simulated: Array | None) -> float:
    """The mean margin minus what is allowed: negative where it is beyond that."""
    return float(margins.mean()) - _allowed(simulated)


def _p_below(margins: Array, simulated: Array | None) -> float:
    """One-sided p-value that the mean margin is not below what is allowed; NaN without spread."""
    count, error = len(margins), 0.0
    if simulated is not None and _allowed(simulated) < 0:
        error = float(simulated.var(ddof=1)) / len(simulated)
    value = _beyond(margins, simulated)
    if value >= -ROUNDING:
        return 1.0
    if count < 2 or np.ptp(margins) <= ROUNDING:
        return math.nan
    own = margins.var(ddof=1) / count
    freedom = own**2 / (count - 1)
    if simulated is not None:
        freedom += error**2 / max(len(simulated) - 1, 1)
    p = float(stats.t.cdf(value / math.sqrt(own + error), (own + error) ** 2 / freedom))
    return p if simulated is None else max(p, _p_of_perfect(margins, simulated))


def _p_of_perfect(margins: Array, simulated: Array) -> float:
    """How often as many seeds of a perfect learner have a mean margin as low as these."""
    random = np.random.default_rng(0)
    means = random.choice(simulated, (RESAMPLED, len(margins))).mean(1)
    return float((1 + (means <= margins.mean() + ROUNDING).sum()) / (1 + RESAMPLED))
