"""The loop of a perfect learner that resamples its training set: Wright-Fisher with selection.

A sample is a cell, a reward with a class: all that pickers and metrics see of it. So replicates of
the loop with the learner `empirical` are arrays of cells, drawn as the loop draws samples.

Axes: R replicates, N training samples, G pool, M kept samples, K candidates, C cells, Q bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from luceloop.core import rng
from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError
from luceloop.core.pool.rows import Sizes, training_sizes
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.law_metrics import law_metrics
from luceloop.core.theory.opinions import Opinions
from luceloop.core.theory.selection import Array

Index = NDArray[np.intp]
AT_ONCE = 2**18
"""Samples of a pool or training set, over replicates, that are held at a time, in caches."""
MOST_SAMPLES = 10**7
"""The largest pool or training set that is simulated."""
WIDEST = 600.0
"""Span of βr whose exponentials are numbers; where it is wider, every choice has its own scale."""


def resample(
    law: RewardLaw, point: PointConfig, replicates: int, seed: int = 0
) -> dict[str, Array]:
    """Run the loop with the learner `empirical` many times, on rewards and classes alone.

    Real samples are drawn from the law, or from its finite set without replacement; where the law
    starts at a measured p_0, the first pool is drawn from that. The numbers are a function of
    the arguments.

    Args:
        law: of the real data, as it is, not reduced.
        point: the configuration; its seeds do not matter.
        replicates: R.
        seed: names their random streams.

    Returns:
        The metrics of each replicate's pools by name `(R, T+1)`, NaN where there is no value.

    Raises:
        ConfigError: if sizes do not fit each other, or are too large to simulate.
    """
    process = _Process(law, point, seed)
    rows = max(1, AT_ONCE // process.largest)
    starts = range(0, replicates, rows)
    chunks = [
        process.run(min(rows, replicates - first), shard) for shard, first in enumerate(starts)
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def draws(law: RewardLaw, point: PointConfig) -> int:
    """How many samples one replicate draws, about; what it takes is proportional to them."""
    real = data_size(law, point)
    return (point.iterations + 1) * _largest(point, training_sizes(point, real), real)


def data_size(law: RewardLaw, point: PointConfig) -> int:
    """Real samples that each seed draws; points with different ones may share a law."""
    return law.size or point.data.sample_size(law.samples)


def _largest(point: PointConfig, sizes: Sizes, real: int) -> int:
    """Samples of the largest pool or training set, or of what one is drawn from."""
    sets = 1 if point.training.synthetic == "replace" else max(point.iterations, 1)
    return max(sizes.pool, real, sizes.real + sets * sizes.kept)


@dataclass(frozen=True)
class _Cells:
    """The pairs of a reward and a class that samples of a law may have, by ascending reward."""

    reward: Array
    """`(C,)`."""
    rewards: Array
    """The same, or all rewards where there are several `(C, J)`."""
    code: NDArray[np.intp]
    """Number of the reward bin and class `(C,)`, bin by bin."""
    real: NDArray[np.int32]
    """Cells of the equally likely real samples."""
    initial: NDArray[np.int32]
    """Cells of the equally likely samples of p_0."""

    @classmethod
    def of(cls, law: RewardLaw) -> _Cells:
        """The cells of a law that knows of how many samples it is made."""
        shares: coo_array = law.sparse_classes.tocoo()
        n_classes = shares.shape[1]
        if n_classes:
            order = np.lexsort((shares.col, shares.row))
            level, label = shares.row[order], shares.col[order]
            reference = initial = shares.data[order]
        else:
            level, label = np.arange(len(law.reward)), np.zeros(len(law.reward), np.intp)
            reference, initial = law.reference, law.initial
        reward = law.reward[level]
        bins = np.searchsorted(law.edges, reward)
        real = _samples(reference, law.samples)
        start = real if law.starts_at_reference else _samples(initial, law.initial_samples)
        return cls(reward, law.rewards[level], bins * max(n_classes, 1) + label, real, start)


def _samples(weights: Array, count: int) -> NDArray[np.int32]:
    """The cells of `count` equally likely samples that have these weights `(C,)`."""
    return np.repeat(np.arange(len(weights), dtype=np.int32), np.rint(weights * count).astype(int))


class _Process:
    """The loop of one point: how its training sets, pools and kept samples follow each other."""

    def __init__(self, law: RewardLaw, point: PointConfig, seed: int) -> None:
        self._law, self._point, self._seed = law, point, seed
        self._data_size = data_size(law, point)
        self._sizes = _checked(point, self._data_size)
        self._cells = _Cells.of(law)
        self._measure = _Measure(law, self._cells, point)
        self._choices = _Choices(self._cells.rewards, point)

    @property
    def largest(self) -> int:
        """Samples of the largest pool or training set."""
        return _largest(self._point, self._sizes, self._data_size)

    def run(self, rows: int, shard: int) -> dict[str, Array]:
        """Metrics `(rows, T+1)` by name, from the stream of this number."""
        random, sizes = rng.array_stream(self._seed, "finite-n", shard=shard), self._sizes
        real = self._draw_real(random, rows, self._data_size)
        training = real
        if not self._law.starts_at_reference:
            training = np.broadcast_to(self._cells.initial, (rows, len(self._cells.initial)))
        found: list[dict[str, Array]] = []
        given = training[:, :0]
        for t in range(self._point.iterations + 1):
            pool = random.integers(0, training.shape[1], (rows, sizes.pool))
            pool += np.arange(rows)[:, None] * training.shape[1]
            metrics, count = self._measure.of(training, pool)
            if sizes.kept and t < self._point.iterations:
                kept, who = self._choices.of(random, training, pool, count, sizes.kept)
                metrics |= who
                metrics["kept_reward_mean"] = self._cells.reward[kept].mean(1)
            else:
                kept = training[:, :0]
            found.append(metrics)
            if t < self._point.iterations:
                fresh = self._point.training.real == "fresh"
                part = self._draw_real(random, rows, sizes.real) if fresh else real
                given = kept if self._replaces else np.concatenate([given, kept], 1)
                chosen = self._of_all_kept(random, given)
                training = np.concatenate([part[:, : sizes.real], chosen], 1)
        return _stack(found)

    @property
    def _replaces(self) -> bool:
        return self._point.training.synthetic == "replace"

    def _of_all_kept(
        self, random: np.random.Generator, kept: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """What a training set has of the kept samples that it is given `(rows, M)`."""
        if self._point.training.synthetic != "subsample" or kept.shape[1] <= self._sizes.kept:
            return kept
        return random.permuted(kept, axis=1)[:, : self._sizes.kept]

    def _draw_real(self, random: np.random.Generator, rows: int, count: int) -> NDArray[np.int32]:
        """Real samples, in random order `(rows, count)`."""
        real = self._cells.real
        if not self._law.finite:
            return real[random.integers(0, len(real), (rows, count))]
        subsets = [random.choice(len(real), count, replace=False) for _ in range(rows)]
        return real[np.stack(subsets)]


def _checked(point: PointConfig, real: int) -> Sizes:
    """The sizes of a point, unless they are too large."""
    sizes = training_sizes(point, real)
    if _largest(point, sizes, real) > MOST_SAMPLES:
        allowed = f"makes a pool or training set of more than {MOST_SAMPLES}: --replicates 0"
        raise ConfigError("lam", point.lam, allowed)
    return sizes


def _stack(found: list[dict[str, Array]]) -> dict[str, Array]:
    """Metrics `(R, T+1)` of those at each iteration `(R,)`; NaN where there are none."""
    names = dict.fromkeys(name for metrics in found for name in metrics)
    nothing = np.full_like(found[0]["reward_mean"], np.nan)
    return {name: np.stack([at.get(name, nothing) for at in found], 1) for name in names}


class _Measure:
    """The metrics of pools, from how often each training sample is in them."""

    def __init__(self, law: RewardLaw, cells: _Cells, point: PointConfig) -> None:
        self._law, self._cells, self._centre = law, cells, law.mean
        self._bins, self._classes = len(law.edges) + 1, law.sparse_classes.shape[1]
        self._reward = cells.reward - self._centre
        self._weight: Array | None = None
        if law.supremum is not None:
            levels = np.searchsorted(law.reward, cells.reward)
            self._weight = law.exp_reward(point.beta)[levels]
        several = len(point.pickers) > 1
        self._opinions = Opinions(cells.rewards, law.suprema, point) if several else None

    def of(self, training: NDArray[np.int32], pool: Index) -> tuple[dict[str, Array], Array]:
        """Metrics of pools by name `(R,)`, and how often they have each training sample `(R, N)`.

        Args:
            training: cells `(R, N)`.
            pool: what is drawn of them, as indices into all rows together `(R, G)`.
        """
        drawn = np.bincount(pool.ravel(), minlength=training.size)
        count = drawn.astype(np.float64).reshape(training.shape)
        columns = [*_moments(count, self._reward[training])]
        if self._weight is not None:
            columns += _moments(count, self._weight[training])
        shares = self._shares(training, count)
        columns += [*shares.sum(2).T]
        if self._classes:
            columns += [*shares.sum(1).T]
        statistics = np.stack(columns, 1) / pool.shape[1]
        metrics = law_metrics(statistics, self._law, self._centre)
        present = count > 0
        metrics["reward_min"] = self._cells.reward[np.where(present, training, 2**31 - 1).min(1)]
        metrics["reward_max"] = self._cells.reward[np.where(present, training, -1).max(1)]
        if self._opinions is not None:
            metrics |= self._opinions.of(self._cell_shares(training, count))
        return metrics, count

    def _cell_shares(self, training: NDArray[np.int32], count: Array) -> Array:
        """Share of each cell in each pool `(C, R)`."""
        cells, rows = len(self._cells.reward), len(training)
        place = training + cells * np.arange(rows)[:, None]
        summed = np.bincount(place.ravel(), count.ravel(), minlength=cells * rows)
        shares: Array = summed.reshape(rows, cells) / count.sum(1, keepdims=True)
        return shares.T

    def _shares(self, training: NDArray[np.int32], count: Array) -> Array:
        """Samples of the pool by bin and class `(R, Q, classes)`."""
        classes = max(self._classes, 1)
        code, codes = self._cells.code[training], self._bins * classes
        code += np.arange(len(code))[:, None] * codes
        summed = np.bincount(code.ravel(), count.ravel(), minlength=len(code) * codes)
        shares: Array = summed.reshape(len(code), self._bins, classes).astype(np.float64)
        return shares


def _moments(count: Array, values: Array) -> tuple[Array, Array]:
    """Sums `(R,)` of values `(R, N)`, and of their squares, each as often as it counts."""
    weighted = count * values
    return weighted.sum(1), np.einsum("rn,rn->r", weighted, values)


class _Choices:
    """The choices of the kept samples, each made by a picker who is drawn by the shares."""

    def __init__(self, rewards: Array, point: PointConfig) -> None:
        columns, self._pickers = rewards.reshape(len(rewards), -1), point.pickers
        self._each = [
            _Choice(columns[:, picker.reward], picker.beta, point.k) for picker in self._pickers
        ]
        self._upto = np.cumsum([picker.share for picker in self._pickers])

    def of(
        self,
        random: np.random.Generator,
        training: NDArray[np.int32],
        pool: Index,
        count: Array,
        kept: int,
    ) -> tuple[NDArray[np.int32], dict[str, Array]]:
        """Cells of the kept samples `(R, M)`, and the metrics of who chose them, each `(R,)`.

        Arguments are those of `_Choice.of`.
        """
        each = [choice.of(random, training, pool, count, kept) for choice in self._each]
        if len(each) == 1:
            return each[0], {}
        point = random.random((len(training), kept)) * self._upto[-1]
        who = np.searchsorted(self._upto, point, side="right").clip(max=len(each) - 1)
        chosen = np.take_along_axis(np.stack(each), who[None], 0)[0]
        return chosen, self._shares(who)

    def _shares(self, who: NDArray[np.intp]) -> dict[str, Array]:
        """Shares of the choices by user, and of those in error."""
        share = [(who == p).mean(1) for p in range(len(self._pickers))]
        found = dict[str, Array]()
        users = {picker.user for picker in self._pickers}
        for picker, own in zip(self._pickers, share, strict=True):
            names = [f"choice_share/{picker.user}"] if len(users) > 1 else []
            for name in names + (["flip_share"] if picker.errs else []):
                found[name] = found.get(name, 0.0) + own
        return found


class _Choice:
    """Luce's choice of one picker (`core.pool.curation`)."""

    def __init__(self, reward: Array, beta: float, k: float) -> None:
        """Take the rewards of cells `(C,)`; with a β below 0, the opposite is liked."""
        self._reward, self._beta, self._k = reward if beta >= 0 else -reward, abs(beta), k
        self._lowest = int(self._reward.argmin())
        self._weight: Array | None = None
        if self._beta * float(np.ptp(reward)) < WIDEST:
            self._weight = np.exp(self._beta * (self._reward - self._reward.max()))

    def of(
        self,
        random: np.random.Generator,
        training: NDArray[np.int32],
        pool: Index,
        count: Array,
        kept: int,
    ) -> NDArray[np.int32]:
        """Cells of the kept samples `(R, M)`.

        Args:
            random: where chance comes from.
            training: cells `(R, N)`.
            pool: what was drawn of them, as indices into all rows together `(R, G)`.
            count: how often each training sample was drawn `(R, N)`.
            kept: M.
        """
        if math.isinf(self._k):
            return self._from_pool(random, training, count, kept)
        k = 1 if self._beta == 0 else int(self._k)  # without a taste one of K is as good as any
        cells = training.ravel()[pool[:, : k * kept]]
        if k == 1:
            return cells
        return self._among_k(random, cells.reshape(len(pool), k, kept))

    def _among_k(self, random: np.random.Generator, cells: NDArray[np.int32]) -> NDArray[np.int32]:
        """The chosen of candidates `(R, K, M)`; who competes with whom is chance anyway."""
        upto = self._weights(cells)
        for k in range(1, cells.shape[1]):
            upto[:, k] += upto[:, k - 1]
        point = random.random((len(cells), cells.shape[2])) * upto[:, -1]
        winner = (upto[:, :-1] <= point[:, None]).sum(1)
        return np.take_along_axis(cells, winner[:, None], 1)[:, 0]

    def _from_pool(
        self, random: np.random.Generator, training: NDArray[np.int32], count: Array, kept: int
    ) -> NDArray[np.int32]:
        """Draws from the whole pool with weights e^{βr}."""
        lowest = np.where(count > 0, training, self._lowest)  # of samples that are not in the pool
        upto = (count * self._weights(lowest)).cumsum(1)
        chosen = np.empty((len(training), kept), np.int32)
        for row, total in enumerate(upto):
            point = random.random(kept) * total[-1]
            drawn = np.searchsorted(total, point, side="right").clip(max=len(total) - 1)
            chosen[row] = training[row, drawn]
        return chosen

    def _weights(self, cells: NDArray[np.int32]) -> Array:
        """e^{βr} of cells `(R, N, ...)` by the highest along N; at β=∞, 1 there and 0 below."""
        if self._weight is not None:
            return self._weight[cells]
        reward = self._reward[cells]
        below = reward - reward.max(1, keepdims=True)
        with np.errstate(invalid="ignore"):  # ∞ · 0
            weights: Array = np.where(below == 0, 1.0, np.exp(self._beta * below))
        return weights
