"""Claims answered by seeds: each *holds*, is *contradicted*, or is *undecided*.

A claim is a comparison for each point that it is about, by a two-sided t-test against the number,
or the other point or iteration, that it names: paired where seeds are shared. Nearness is tested by
two one-sided tests. All comparisons of a sweep's claims are one family, adjusted by Holm: that any
of them is answered wrongly has a probability of at most 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from luceloop.analysis.statistics.comparison import LEVEL, Difference, adjusted, compare
from luceloop.core.config.claims import Against, ClaimConfig, Iteration, Target

Answer = Literal["holds", "contradicted", "undecided"]
BySeed = Mapping[int, float]
Measure = Callable[[int, str, Iteration], BySeed]
"""A metric by seed, of a point (by index) at an iteration; empty if there are no values."""
Forecasts = Callable[[int, str, Iteration], float | None]
"""The forecast of the same; None if there is none."""


NAN = math.nan
AWAITED = Difference(NAN, NAN, NAN, 1.0, paired=True, correlation=NAN, seeds=0, seeds_needed=NAN,
                     better=NAN)  # fmt: skip
"""Stands for a comparison that is still to come."""


@dataclass(frozen=True)
class Comparison:
    """One comparison that a claim rests on."""

    a: str
    """The point that the claim is about."""
    b: str
    """What it is compared with."""
    found: Difference
    """How far the first is above the second, beyond what the claim allows."""
    supports: bool
    """Whether the difference is on the claim's side."""
    points: tuple[int, ...] = ()
    """Indices of the points that are compared, one or two."""

    @property
    def answer(self) -> Answer:
        """What this comparison says of the claim."""
        if not self.found.p_holm < 1 - LEVEL:
            return "undecided"
        return "holds" if self.supports else "contradicted"


@dataclass(frozen=True)
class Verdict:
    """What a sweep's seeds say of one claim."""

    claim: ClaimConfig
    comparisons: Sequence[Comparison]
    """One for each point that the claim is about."""
    missing: int = 0
    """Points that it is about and that cannot be compared, as they, or what they are compared with,
    have not run to their end."""

    @property
    def answer(self) -> Answer:
        """It holds if all comparisons say so; one that contradicts it is enough."""
        answers = [each.answer for each in self.comparisons]
        if "contradicted" in answers:
            return "contradicted"
        every = answers and set(answers) == {"holds"} and not self.missing
        return "holds" if every else "undecided"

    @property
    def words(self) -> str:
        """The answer, and what it rests on or takes."""
        if not self.comparisons:
            return "undecided: no such point has run to its end"
        if self.missing and self.answer == "undecided":
            return f"undecided: {self.missing} points cannot be compared yet"
        hardest = max(self.comparisons, key=lambda each: _or_one(each.found.p_holm))
        if self.answer == "undecided":
            needed, seeds = hardest.found.seeds_needed, hardest.found.seeds
            if math.isfinite(needed) and needed > seeds:
                return f"undecided: {int(needed) - seeds} seeds more would show such a difference"
            return f"undecided after {seeds} seeds"
        if self.answer == "contradicted":
            hardest = next(each for each in self.comparisons if each.answer == "contradicted")
        difference = hardest.found
        ends = f"{difference.ci_low:+.3g} to {difference.ci_high:+.3g}"
        numbers = f"{difference.difference:+.3g} ({ends}), p={difference.p_holm:.2g}"
        return f"{self.answer}: {hardest.a} against {hardest.b}: {numbers}"


def answer_claims(
    claims: Sequence[ClaimConfig],
    points: Mapping[int, Mapping[str, Any]],
    names: Mapping[int, str],
    measure: Measure,
    forecasts: Forecasts,
    ended: Sequence[int] | None = None,
    *,
    lasting: bool = False,
    level: float = LEVEL,
) -> list[Verdict]:
    """Answer claims from what is measured, all comparisons adjusted together.

    Args:
        claims: of the sweep.
        points: the flattened configuration of each point that has begun, by index.
        names: of the points, by index.
        measure: what was measured.
        forecasts: what is expected of a perfect learner.
        ended: indices of the points that have run to their end; all if not given.
        lasting: whether comparisons that cannot be made yet count in the family, so that what is
            decided is so whatever they will be.
        level: of a single look, as in `comparison.adjusted`.
    """
    whole = {i: flat for i, flat in points.items() if ended is None or i in ended}
    family: list[tuple[int, Comparison]] = []
    missing = [0] * len(claims)
    for number, claim in enumerate(claims):
        for index in points:
            if not _matches(points[index], claim.point) or _is_itself(claim, points[index]):
                continue
            found = None
            if index in whole:
                found = _compare(claim, index, whole, names, measure, forecasts, level)
            if found is None:
                missing[number] += 1
            else:
                family.append((number, found))
    # A p-value of 1 comes last in Holm's order, where it weighs most on all others.
    awaited = [AWAITED] * sum(missing) if lasting else []
    corrected = adjusted([*(each.found for _, each in family), *awaited], level)[: len(family)]
    answered = [
        (number, replace(each, found=found))
        for (number, each), found in zip(family, corrected, strict=True)
    ]
    return [
        Verdict(claim, [each for owner, each in answered if owner == number], missing[number])
        for number, claim in enumerate(claims)
    ]


def _compare(
    claim: ClaimConfig,
    index: int,
    points: Mapping[int, Mapping[str, Any]],
    names: Mapping[int, str],
    measure: Measure,
    forecasts: Forecasts,
    level: float,
) -> Comparison | None:
    """The comparison of one point; None if there is nothing to compare it with."""
    own = measure(index, claim.metric, claim.at)
    against, other, target = _other(claim, index, points, names, measure, forecasts)
    if not own or other is None:
        return None
    if claim.relation == "near":
        assert claim.within is not None
        found = _near(own, other, claim.within, level)
        supports = abs(found.difference) < claim.within
    else:
        by = claim.by if claim.relation == "above" else -claim.by
        found = compare(own, {seed: value + by for seed, value in other.items()}, level)
        supports = (found.difference > 0) == (claim.relation == "above")
    both = (index,) if target in (None, index) else (index, target)
    return Comparison(names[index], against, found, supports, both)


def _other(
    claim: ClaimConfig,
    index: int,
    points: Mapping[int, Mapping[str, Any]],
    names: Mapping[int, str],
    measure: Measure,
    forecasts: Forecasts,
) -> tuple[str, BySeed | None, int | None]:
    """What a point is compared with: in words, by seed, and which point, where it is one."""
    against: Against = claim.against
    own = measure(index, claim.metric, claim.at)
    if isinstance(against, Target):
        at = claim.at if against.at is None else against.at
        wanted = {**points[index], **against.point}
        for target, flat in points.items():
            if _same_but(flat, wanted):
                words = names[target] if against.point else f"t={against.at}"
                return words, measure(target, claim.metric, at) or None, target
        return "", None, None
    if against == "forecast":
        expected = forecasts(index, claim.metric, claim.at)
        return "the forecast", None if expected is None else dict.fromkeys(own, expected), None
    return f"{against:g}", dict.fromkeys(own, float(against)), None


def _near(own: BySeed, other: BySeed, within: float, level: float) -> Difference:
    """Two one-sided tests: p is that of "not nearer than `within`", or of "near" if it is not."""
    found = compare(own, other, level)
    upper, lower = (
        compare(own, {seed: value + end for seed, value in other.items()})
        for end in (within, -within)
    )
    below, above = _one_sided(upper), _one_sided(lower)  # of lying below +within, above -within
    near = max(below, 1 - above)
    far = min(1 - below, above)
    # Doubled, as the two-sided tests of the other claims, for either answer may come out.
    p = math.nan if math.isnan(near) else min(1.0, 2 * min(near, far))
    return replace(found, p=p, seeds_needed=math.nan)


def _one_sided(found: Difference) -> float:
    """p-value that the first is not below the second."""
    if math.isnan(found.p):
        return math.nan
    return found.p / 2 if found.difference < 0 else 1 - found.p / 2


def _is_itself(claim: ClaimConfig, flat: Mapping[str, Any]) -> bool:
    """Whether a point would be compared with itself, as it has the other point's values."""
    against = claim.against
    if not isinstance(against, Target) or against.at not in (None, claim.at):
        return False
    return _matches(flat, against.point)


def _matches(flat: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(_equal(flat.get(key), value) for key, value in wanted.items())


def _same_but(flat: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return flat.keys() == wanted.keys() and _matches(flat, wanted)


def _equal(one: Any, other: Any) -> bool:
    if one == other:
        return True
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers and math.isclose(one, other, rel_tol=1e-12)


def _or_one(p: float) -> float:
    return 1.0 if math.isnan(p) else p
