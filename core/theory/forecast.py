"""What retraining comes to with a perfect learner and infinitely many samples, without training.

    for config, found in zip(points, forecast(points)):
        print(found.curves["reward_mean"], found.bounds)

The curves have the names and meanings of the loop's metrics (`core.pool.metrics`).

Axes: L reward levels, P points that share a law, β and T; F statistics of a law.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from luceloop.core.config.point import PointConfig
from luceloop.core.io.places import Folder
from luceloop.core.theory.bounds import Bounds
from luceloop.core.theory.finite_n import FiniteN
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.population import kl_divergence, limit, population
from luceloop.core.theory.real_law import law_key, real_law
from luceloop.core.theory.selection import Array


@dataclass(frozen=True)
class Forecast:
    """One point's curves, NaN at iterations where there is no value."""

    curves: dict[str, Array]
    """By metric `(T+1,)`."""
    bounds: dict[str, Array]
    """By name in `core.theory.bounds.BOUNDS` `(T+1,)`, from t=1."""
    limit: dict[str, float]
    """Metrics of lim p_t; empty where it is not known in closed form."""
    finite_n: dict[str, FiniteN] = field(default_factory=dict)
    """By metric, how a perfect learner scatters at these sample sizes; empty if not simulated."""

    def values(self) -> Iterator[tuple[int, str, float]]:
        """Iteration, metric and value; bounds are `bound/<name>`."""
        named = self.curves | {f"bound/{name}": curve for name, curve in self.bounds.items()}
        for metric, curve in named.items():
            for iteration in np.flatnonzero(~np.isnan(curve)):
                yield int(iteration), metric, float(curve[iteration])


def forecast(
    points: Sequence[PointConfig],
    laws: Sequence[RewardLaw | None] | None = None,
    cache: Folder | None = None,
) -> list[Forecast]:
    """Forecast the curves of configuration points, those that share much together.

    Args:
        points: configurations without a search.
        laws: each point's law; that of its real data with p_0 = p_ref where it is not given.
        cache: folder of trained classifiers, for laws that are not given.

    Raises:
        LoopError: if a reward breaks its contract.
        ConfigError: if data or a reward cannot be built.
    """
    by_law: dict[int | str, list[int]] = defaultdict(list)
    given = [None] * len(points) if laws is None else list(laws)
    for index, point in enumerate(points):
        by_law[law_key(point) if given[index] is None else id(given[index])].append(index)
    found: dict[int, Forecast] = {}
    for members in by_law.values():  # one law at a time: each may be large
        law = given[members[0]] or real_law(points[members[0]], cache=cache)
        alike: dict[tuple[float, int], list[int]] = defaultdict(list)
        for index in members:
            alike[points[index].beta, points[index].iterations].append(index)
        for group in alike.values():
            together = _forecast(law, [points[index] for index in group])
            found |= dict(zip(group, together, strict=True))
    return [found[index] for index in range(len(points))]


def _forecast(law: RewardLaw, points: Sequence[PointConfig]) -> list[Forecast]:
    """Points that share the law, β and T."""
    beta, iterations = points[0].beta, points[0].iterations
    law = law.reduced(beta, iterations)
    statistics = _Statistics(law, beta)
    lam = np.array([point.lam for point in points])
    k = np.array([float(point.k) for point in points])
    laws = population(law.reward, law.initial, law.reference, beta, lam, k)
    rows, kept = [], []
    for _, (now, chosen) in zip(range(iterations + 1), laws, strict=False):
        rows.append(statistics.of(now))
        kept.append(statistics.reward @ chosen)
    return [
        _point(law, point, statistics, [row[:, i] for row in rows], np.array(kept)[:, i])
        for i, point in enumerate(points)
    ]


def _point(
    law: RewardLaw,
    point: PointConfig,
    statistics: _Statistics,
    rows: Sequence[Array],
    kept: Array,
) -> Forecast:
    curves = statistics.metrics(np.array(rows))
    if point.lam > 0:
        curves["kept_reward_mean"] = np.append(kept[:-1], np.nan)
    bounds = {}
    bound = Bounds(law, point.beta, point.lam, point.k)
    if bound.names and point.iterations:
        moments = zip(curves["exp_reward_mean"], curves["exp_reward_var"], strict=True)
        after = [bound.after(*moment) for moment in moments]
        bounds = {
            name: np.array([math.nan, *(at[name] for at in after[:-1])]) for name in bound.names
        }
    end = limit(law.reward, law.initial, law.reference, point.beta, point.lam, point.k)
    limits = {} if end is None else statistics.metrics(statistics.of(end[:, None])[None, :, 0])
    return Forecast(curves, bounds, {name: float(curve[0]) for name, curve in limits.items()})


class _Statistics:
    """The metrics of laws on given levels, from F linear statistics of them."""

    def __init__(self, law: RewardLaw, beta: float) -> None:
        self._law = law
        self.reward = law.reward
        self._centre = float(law.reference @ law.reward)
        columns = [law.reward - self._centre, (law.reward - self._centre) ** 2]
        if law.supremum is not None:
            columns += [law.exp_reward(beta), law.exp_reward(beta) ** 2]
        ratio = np.where(law.reference > 0, law.reference, 1.0)[:, None]
        self._matrix = np.column_stack([*columns, law.bins, law.classes / ratio])

    def of(self, laws: Array) -> Array:
        """Statistics `(F, P)` of laws `(L, P)`."""
        found: Array = self._matrix.T @ laws
        return found

    def metrics(self, statistics: Array) -> dict[str, Array]:
        """Metrics `(T+1,)` by name, from the statistics `(T+1, F)` of a point."""
        law = self._law
        sizes = [2, 2 if law.supremum is not None else 0, len(law.edges) + 1]
        reward, exp_reward, bins, classes = np.split(statistics, np.cumsum(sizes), axis=1)
        metrics = {
            "reward_mean": self._centre + reward[:, 0],
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
    """Variances `(T+1,)` from first and second moments `(T+1, 2)`."""
    variance: Array = moments[:, 1] - moments[:, 0] ** 2
    return variance
