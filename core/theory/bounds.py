"""The theorems' bounds: their formulas, which apply to a point, and how far a run is from them.

E and Var are those of e^{β(r - r*)}: expectations of w are in units of its supremum, w* = e^{βr*}.
Where r* is not known there are no bounds (Ferbach et al., arXiv 2407.09499).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from luceloop.core.config.parts import Synthetic
from luceloop.core.pool.rows import Rows
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.selection import Array

Number = TypeVar("Number", float, Array)
"""One run's, or an array of many runs'."""


def lemma_2_2(mean: Number, variance: Number, k: float, share: Number | float = 1.0) -> Number:
    """Least E_{t+1}[w]/w* without real data (λ=∞), from the moments at t.

    Args:
        mean: E_t[w]/w*.
        variance: Var_t[w]/w*².
        k: K.
        share: of the last kept set among all that p_{t+1} is trained on; p_t has the others.
    """
    return mean + share * (1 - 1 / k) * variance


def theorem_2_3(mean: float, variance: float, lam: float, k: float) -> float:
    """Least E_t[w]/w* for all t ≥ 1 with real data (λ<∞), from the moments of p_ref = p_0."""
    real = 1 / (1 + lam)
    return mean + lam * real * real * real * (1 - 1 / k) * variance


def largest_ratio(lam: float, k: float) -> float | None:
    """Upper bound 1/(1 - λ(K-1)) of p_t/p_ref where p_0 = p_ref; None unless λ(K-1) < 1.

    It is in the proof of Theorem 2.4, and bounds every expectation under p_t.
    """
    if math.isinf(lam) or (lam > 0 and lam * (k - 1) >= 1):
        return None
    return 1.0 if lam == 0 else 1 / (1 - lam * (k - 1))


def theorem_2_4(lam: float, k: float) -> float | None:
    """Upper bound of KL(p_t ‖ p_ref) where p_0 = p_ref; None unless λ(K-1) < 1."""
    ratio = largest_ratio(lam, k)
    return None if ratio is None else math.log(ratio)


@dataclass(frozen=True)
class Bounded:
    """What a bound is a bound of."""

    metric: str
    side: Literal["lower", "upper"]
    title: str
    is_biased: bool = False
    """Whether finitely many samples alone move the metric's mean towards the bound."""

    def margin(self, value: Number, bound: Number | float) -> Number:
        """How far `value` is on the right side of `bound`; negative where it is violated."""
        return value - bound if self.side == "lower" else bound - value


BOUNDS = {
    "lemma_2_2": Bounded("exp_reward_mean", "lower", "Lemma 2.2"),
    "theorem_2_3": Bounded("exp_reward_mean", "lower", "Theorem 2.3"),
    "theorem_2_4": Bounded("reward_kl", "upper", "Theorem 2.4", is_biased=True),
    "theorem_2_4_sup": Bounded("exp_reward_mean", "upper", "Theorem 2.4, on p_t/p_ref"),
}
"""By name in metrics, `bound/<name>` and `margin/<name>`."""


def applicable(
    lam: float,
    k: float,
    supremum: float | None,
    synthetic: Synthetic = "replace",
    *,
    alike: bool = True,
) -> list[str]:
    """Names of the bounds whose conditions a point meets where p_0 = p_ref.

    Args:
        lam: λ.
        k: K.
        supremum: r*; None where it, or that of e^{βr} for a β below 0, is not known.
        synthetic: which kept sets a retraining is given. Theorem 2.4 needs a share of real data
            that does not go to 0, as it does where kept sets accumulate. What else the theorems'
            proofs use holds for averages of kept laws, too.
        alike: whether all pickers are of one kind. Theorem 2.4 asks for no more than H ≤ K, which
            holds for whoever chooses; the others need one preference that all choices follow.
    """
    if supremum is None:
        return []
    if math.isinf(lam):
        return ["lemma_2_2"] if alike else []
    held = largest_ratio(lam, k) and (synthetic != "accumulate" or lam == 0)
    mixing = ["theorem_2_4", "theorem_2_4_sup"] if held else []
    return ["theorem_2_3", *mixing] if alike else mixing


def is_identity(beta: float, lam: float, k: float) -> bool:
    """Whether the bounds of a point are equalities, which noise alone breaks half the time.

    Nothing is preferred where β=0 or K=1, and nothing that was kept is trained on where λ=0.
    """
    return beta == 0 or lam == 0 or k == 1


class Bounds:
    """The bounds of one point.

    Args:
        law: of the real data's rewards, and where p_0 is measured, of p_0's. Theorems 2.3 and 2.4
            hold for p_0 = p_ref alone and are left out otherwise.
        beta: β.
        lam: λ.
        k: K.
        synthetic: which kept sets a retraining is given.
        alike: whether all pickers are of one kind.
    """

    def __init__(
        self,
        law: RewardLaw,
        beta: float,
        lam: float,
        k: float,
        synthetic: Synthetic = "replace",
        *,
        alike: bool = True,
    ) -> None:
        supremum = None if beta < 0 else law.supremum
        names = applicable(lam, k, supremum, synthetic, alike=alike)
        if not law.starts_at_reference:
            names = [name for name in names if name == "lemma_2_2"]
        self._k, self.names, self._replaces = k, names, synthetic == "replace"
        self._fixed: dict[str, float] = {}
        if {"theorem_2_3", "theorem_2_4"} & set(names):
            weight = law.exp_reward(beta)
            mean = float(law.reference @ weight)
            variance = float(law.reference @ (weight - mean) ** 2)
            if "theorem_2_3" in names:
                self._fixed["theorem_2_3"] = theorem_2_3(mean, variance, lam, k)
            ratio, divergence = largest_ratio(lam, k), theorem_2_4(lam, k)
            if "theorem_2_4" in names and ratio is not None and divergence is not None:
                self._fixed["theorem_2_4"] = divergence
                self._fixed["theorem_2_4_sup"] = ratio * mean

    def after(
        self, mean: Number, variance: Number, iteration: Number | float = 0
    ) -> dict[str, Number | float]:
        """The bounds at t+1 where E_t[w]/w* and Var_t[w]/w*² are these.

        Args:
            mean: E_t[w]/w*.
            variance: Var_t[w]/w*².
            iteration: t, which matters where p_{t+1} is trained on all t+1 kept sets.
        """
        if "lemma_2_2" in self.names:
            share = 1.0 if self._replaces else 1 / (iteration + 1)
            return {"lemma_2_2": lemma_2_2(mean, variance, self._k, share)}
        return {**self._fixed}


class Margins:
    """How far every run of an ensemble stays on the right side of its bounds."""

    def __init__(
        self, law: RewardLaw, rows: Rows, k: float, synthetic: Synthetic = "replace"
    ) -> None:
        points = list(zip(rows.beta.tolist(), rows.lam.tolist(), strict=True))
        alike = rows.pickers is None
        bounds = {point: Bounds(law, *point, k, synthetic, alike=alike) for point in set(points)}
        self._bounds = [bounds[point] for point in points]

    def after(
        self, last: Mapping[str, Tensor], metrics: Mapping[str, Tensor], iteration: int = 0
    ) -> dict[str, Tensor]:
        """`margin/<bound>` at t+1, float64 `(R,)`; NaN in rows that the bound does not apply to.

        Args:
            last: metrics at t.
            metrics: metrics at t+1.
            iteration: t.
        """
        found: dict[str, Tensor] = {}
        for row, bounds in enumerate(self._bounds):
            if not bounds.names:
                continue
            mean, variance = (float(last[f"exp_reward_{m}"][row]) for m in ("mean", "var"))
            for name, bound in bounds.after(mean, variance, iteration).items():
                value = metrics[BOUNDS[name].metric]
                empty = torch.full_like(value, torch.nan)
                margins = found.setdefault(f"margin/{name}", empty)
                margins[row] = BOUNDS[name].margin(float(value[row]), bound)
        return found
