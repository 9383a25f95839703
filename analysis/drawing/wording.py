"""What figures call metrics, bands and lines: in axes, legends and captions alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from luceloop.analysis.reading.results import PointCurves

Band = Literal["ci", "std", "quantiles", "seeds"]
"""What is drawn about a curve to show how seeds differ."""

LABELS = {
    "reward_mean": "mean reward E[r]",
    "reward_std": "std of the reward",
    "reward_min": "lowest reward",
    "reward_max": "highest reward",
    "reward_kl": "KL(rewards ‖ real rewards), nats",
    "exp_reward_mean": "E[exp β(r - r*)]",
    "exp_reward_var": "Var[exp β(r - r*)]",
    "kept_reward_mean": "mean reward of the kept",
    "frechet_distance": "Fréchet distance to the real data",
    "precision": "precision (realism)",
    "recall": "recall (coverage)",
    "sliced_wasserstein": "sliced W2 distance to the real data",
    "width_ratio": "width of the classes / of the real ones",
    "class_entropy": "entropy of the class shares (nats)",
    "loss": "training loss",
    "collective_utility": "collective utility Σ q log E[exp βr]",
    "flip_share": "share of choices in error",
}
BY_USER = {
    "reward_mean": "mean reward E[r]",
    "exp_reward_mean": "E[exp β(r - r*)]",
    "choice_share": "share of the choices",
}
FORECAST_LINE = "forecast: perfect learner, n=∞"
BOUND_LINE = "bounds of the theorems"
BANDS: dict[Band, str] = {
    "ci": "95 % interval of the mean",
    "std": "mean ± standard deviation",
    "quantiles": "quartiles about the median",
    "seeds": "thin: single seeds; band: 95 % interval of the mean",
}


def label(metric: str) -> str:
    """What an axis calls a metric."""
    name, _, user = metric.partition("/")
    if name in BY_USER and user.isdecimal():
        return f"{BY_USER[name]} of user {user}"
    return LABELS.get(metric, metric)


def seed_count(points: Sequence[PointCurves]) -> str:
    """How many seeds the points have, like `5 seeds` or `3 to 5 seeds`."""
    counts = sorted({point.seeds for point in points if point.seeds})
    if not counts:
        return ""
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} seeds"
    return f"{counts[0]} seed{'' if counts[0] == 1 else 's'}"


def band_line(band: Band, points: Sequence[PointCurves]) -> str:
    """The legend's entry for the band; empty where one seed has none."""
    if not any(point.seeds > 1 for point in points):
        return ""
    return f"{BANDS[band]}, {seed_count(points)}"


def differs_in_kind(metric: str) -> bool:
    """Whether a metric is another quantity for every β, so that its curves share no axis."""
    return metric.startswith(("exp_reward_", "margin/", "collective_utility"))
