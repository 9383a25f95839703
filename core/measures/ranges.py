"""Ranges: between which values a metric lies whatever is measured, so that intervals do, too."""

from __future__ import annotations

import math
from collections.abc import Iterable

UNIT = ("precision", "recall", "exp_reward_mean")
"""Metrics from 0 to 1."""
SHARES = ("class_fraction/", "exp_reward_mean/", "choice_share/", "flip_share")
"""What the names of further ones begin with."""
POSITIVE = (
    "reward_std",
    "reward_kl",
    "frechet_distance",
    "sliced_wasserstein",
    "width_ratio",
)
"""Metrics from 0."""
REWARDS = ("reward_mean", "reward_min", "reward_max", "kept_reward_mean")
"""Metrics in the unit of the reward, at most its supremum."""


def metric_range(
    name: str, n_classes: int = 0, supremum: float | None = None
) -> tuple[float, float]:
    """The least and the largest value that a metric can have; -∞ and ∞ where there is none.

    Args:
        name: of the metric; those of users have no range.
        n_classes: C, of the data.
        supremum: r*, if known.
    """
    if name in UNIT or name.startswith(SHARES):
        return 0.0, 1.0
    if name == "exp_reward_var":  # of a quantity from 0 to 1
        return 0.0, 0.25
    if name == "class_entropy":
        return 0.0, math.log(n_classes) if n_classes > 1 else math.inf
    if name in POSITIVE or name.startswith("seconds/"):
        return 0.0, math.inf
    if name in REWARDS and supremum is not None:
        return -math.inf, supremum
    return -math.inf, math.inf


def count_classes(names: Iterable[str]) -> int:
    """C, of how many classes metrics with these names tell the share."""
    return sum(name.startswith("class_fraction/") for name in names)
