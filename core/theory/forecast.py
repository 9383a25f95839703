"""What retraining comes to with a perfect learner and infinitely many samples, without training.

    for config, found in zip(points, forecast(points)):
        print(found.curves["reward_mean"], found.bounds)

The curves have the names and meanings of the loop's metrics (`core.measures.metrics`).

Axes: L reward levels, P points that share a law, β and T; F statistics of a law.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import Folder
from luceloop.core.theory.bounds import Bounds
from luceloop.core.theory.finite_n import FiniteN, simulate
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.law_metrics import law_metrics
from luceloop.core.theory.mixture import Taste
from luceloop.core.theory.opinions import Opinions
from luceloop.core.theory.population import converge, limit, population
from luceloop.core.theory.real_law import law_key, real_law
from luceloop.core.theory.resampling import draws
from luceloop.core.theory.selection import Array


def check_choices(point: PointConfig) -> None:
    """Refuse to forecast choices that the theory knows nothing of.

    Raises:
        ConfigError: if samples are kept by code of the user's own.
    """
    if point.curation.is_custom:
        allowed = "is code of your own, of which there is no theory; forecasts know luce alone"
        raise ConfigError("curation.kind", point.curation.kind, allowed)


@dataclass(frozen=True)
class Forecast:
    """One point's curves, NaN at iterations where there is no value."""

    curves: dict[str, Array]
    """By metric `(T+1,)`."""
    bounds: dict[str, Array]
    """By name in `core.theory.bounds.BOUNDS` `(T+1,)`, from t=1."""
    limit: dict[str, float]
    """Metrics of lim p_t; empty where it is not known in closed form and was not looked for."""
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
    replicates: int = 0,
    *,
    limits: bool = False,
    most_draws: float = math.inf,
    seed: int = 0,
) -> list[Forecast]:
    """Forecast the curves of configuration points, those that share much together.

    Args:
        points: configurations without a search.
        laws: each point's law; that of its real data with p_0 = p_ref where it is not given.
        cache: folder of trained classifiers, for laws that are not given.
        replicates: of a perfect learner at finite n, which are simulated for every point.
        limits: whether limits without a closed form are found by iterating the map.
        most_draws: samples that the replicates of all points together may draw, about; a point that
            would draw more than its share is not simulated.
        seed: names the random streams of the replicates.

    Raises:
        LoopError: if a reward breaks its contract.
        ConfigError: if data or a reward cannot be built, sizes cannot be simulated, or samples are
            kept by code of the user's own, of which there is no theory.
    """
    for point in points:
        check_choices(point)
    share = most_draws / max(len(points), 1)
    by_law: dict[int | str, list[int]] = defaultdict(list)
    given = [None] * len(points) if laws is None else list(laws)
    for index, point in enumerate(points):
        by_law[law_key(point) if given[index] is None else id(given[index])].append(index)
    found: dict[int, Forecast] = {}
    for members in by_law.values():  # one law at a time: each may be large
        law = given[members[0]] or real_law(points[members[0]], cache=cache)
        alike: dict[tuple[Taste, int, str], list[int]] = defaultdict(list)
        for index in members:
            point = points[index]
            alike[point.taste, point.iterations, point.training.synthetic].append(index)
        for group in alike.values():
            together = _forecast(law, [points[index] for index in group], limits)
            found |= dict(zip(group, together, strict=True))
        for index in members if replicates else []:
            if replicates * draws(law, points[index]) <= share:
                scattered = simulate(law, points[index], replicates, seed)
                found[index] = replace(found[index], finite_n=scattered)
    return [found[index] for index in range(len(points))]


def _forecast(law: RewardLaw, points: Sequence[PointConfig], limits: bool) -> list[Forecast]:
    """Points that share the law, β, T, and which kept sets a retraining is given."""
    taste, iterations = points[0].taste, points[0].iterations
    law = law.suited_to(points[0])
    statistics = _Statistics(law, points[0])
    lam = np.array([point.lam for point in points])
    k = np.array([float(point.k) for point in points])
    synthetic = points[0].training.synthetic
    laws = population(law.rewards, law.initial, law.reference, taste, lam, k, synthetic)
    rows, kept, opinions, now = [], [], [], np.empty(0)
    for _, (now, chosen) in zip(range(iterations + 1), laws, strict=False):
        rows.append(statistics.of(now))
        kept.append(statistics.reward @ chosen)
        opinions.append(statistics.opinions.of(now))
    ends = _limits(law, points, now if limits else None)
    return [
        _point(
            law,
            point,
            statistics,
            [row[:, i] for row in rows],
            {name: np.array([at[name][i] for at in opinions]) for name in opinions[0]},
            np.array(kept)[:, i],
            ends[i],
        )
        for i, point in enumerate(points)
    ]


def _limits(
    law: RewardLaw, points: Sequence[PointConfig], last: Array | None
) -> list[Array | None]:
    """The limit of each point's p_t `(L,)`: by a formula, or going on from `last` `(L, P)`.

    Where kept sets accumulate, going on would take too many retrainings: the limit is left out.
    """
    given = law.reward, law.initial, law.reference
    found = [
        limit(*given, point.taste, point.lam, point.k, point.training.synthetic) for point in points
    ]
    unknown = [i for i, end in enumerate(found) if end is None]
    if last is None or not unknown or points[0].training.synthetic == "accumulate":
        return found
    lam = np.array([points[i].lam for i in unknown])
    k = np.array([float(points[i].k) for i in unknown])
    start = last[:, unknown]
    ends = converge(law.rewards, start, law.reference, points[0].taste, lam, k)
    for i, end in zip(unknown, ends.T, strict=True):
        found[i] = None if np.isnan(end).any() else end
    return found


def _point(
    law: RewardLaw,
    point: PointConfig,
    statistics: _Statistics,
    rows: Sequence[Array],
    opinions: dict[str, Array],
    kept: Array,
    end: Array | None,
) -> Forecast:
    curves = law_metrics(np.array(rows), law, statistics.centre) | opinions
    if point.lam > 0:
        curves["kept_reward_mean"] = np.append(kept[:-1], np.nan)
        for name, share in statistics.opinions.of_choices().items():
            curves[name] = np.append(np.full(len(kept) - 1, share), np.nan)
    bounds = {}
    alike, synthetic = len(point.pickers) == 1, point.training.synthetic
    bound = Bounds(law, point.beta, point.lam, point.k, synthetic, alike=alike)
    if bound.names and point.iterations:
        moments = zip(curves["exp_reward_mean"], curves["exp_reward_var"], strict=True)
        after = [bound.after(*moment, t) for t, moment in enumerate(moments)]
        bounds = {
            name: np.array([math.nan, *(at[name] for at in after[:-1])]) for name in bound.names
        }
    limits = dict[str, Array]()
    if end is not None:
        limits = law_metrics(statistics.of(end[:, None]).T, law, statistics.centre)
        limits |= statistics.opinions.of(end[:, None])
    return Forecast(curves, bounds, {name: float(curve[0]) for name, curve in limits.items()})


class _Statistics:
    """The F linear statistics that the metrics of laws on given levels need."""

    def __init__(self, law: RewardLaw, point: PointConfig) -> None:
        self.reward, self.centre, beta = law.reward, law.mean, point.beta
        self.opinions = Opinions(law.rewards, law.suprema, point)
        columns = [law.reward - self.centre, (law.reward - self.centre) ** 2]
        if law.supremum is not None:
            columns += [law.exp_reward(beta), law.exp_reward(beta) ** 2]
        ratio = np.where(law.reference > 0, law.reference, 1.0)[:, None]
        self._matrix = np.column_stack([*columns, law.bins, law.classes / ratio])

    def of(self, laws: Array) -> Array:
        """Statistics `(F, P)` of laws `(L, P)`."""
        found: Array = self._matrix.T @ laws
        return found
