"""The metrics of laws, and of pools, from linear statistics of them.

Names and meanings are those of the loop's metrics (`core.measures.metrics`).

Axes: F statistics: mean and mean square of the reward from its centre, the same two of
e^{β(r - r*)} where r* is known, shares of the Q reward bins, shares of the C classes.
"""

from __future__ import annotations

import numpy as np

from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.population import kl_divergence
from luceloop.core.theory.selection import Array


def law_metrics(statistics: Array, law: RewardLaw, centre: float) -> dict[str, Array]:
    """Turn the linear statistics of several laws into their metrics.

    Args:
        statistics: a row for each law `(N, F)`.
        law: of the real data, whose bins and classes they are.
        centre: what was subtracted from rewards.

    Returns:
        By name `(N,)`.
    """
    sizes = [2, 2 if law.supremum is not None else 0, len(law.edges) + 1]
    reward, exp_reward, bins, classes = np.split(statistics, np.cumsum(sizes), axis=1)
    metrics = {
        "reward_mean": centre + reward[:, 0],
        "reward_std": _variance(reward).clip(0) ** 0.5,
    }
    if law.supremum is not None:
        metrics["exp_reward_mean"] = exp_reward[:, 0]
        metrics["exp_reward_var"] = _variance(exp_reward).clip(0)
    metrics["reward_kl"] = kl_divergence(bins, law.real_bins)
    if classes.shape[1]:
        metrics |= {f"class_fraction/{i}": share for i, share in enumerate(classes.T)}
        logs = np.log(np.where(classes > 0, classes, 1.0))
        metrics["class_entropy"] = -(classes * logs).sum(1)
    return metrics


def _variance(moments: Array) -> Array:
    """Variances `(N,)` from first and second moments `(N, 2)`."""
    variance: Array = moments[:, 1] - moments[:, 0] ** 2
    return variance
