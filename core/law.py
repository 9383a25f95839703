"""Laws of the reward: p_ref and p_0 as weights on reward levels, all that the theory needs to know.

The law of the real data is exact where the data is a fixed set, a fixed quasi-random sample where
it has a known law, and a large random sample where it is code of the user's own.

Axes: L reward levels, N samples, C classes, Q reward bins.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, vstack
from torch import Tensor

from luceloop.core import rng
from luceloop.core.config import (
    Config,
    CustomDataConfig,
    CustomRewardConfig,
    EightGaussiansConfig,
    NpzConfig,
    TwoMoonsConfig,
)
from luceloop.core.data import ArrayData, Dataset, QuasiRandom
from luceloop.core.errors import LoopError
from luceloop.core.images import ImageData
from luceloop.core.parsing import parse_config
from luceloop.core.scoring import build_scorer
from luceloop.core.storage import Folder, local_file
from luceloop.core.theory import Array, log_weights

BINS = 32
"""Reward bins of about equal real mass, over which the divergence from the real data is taken."""
QUASI_SAMPLE, SAMPLE = 2**17, 2**14
"""Points of a quasi-random and of a random sample of the real data."""
CHUNK = 2**13
"""Samples that are held at a time."""
EXACT_LEVELS = 512
"""Laws of at most so many levels are taken as they are."""
WIDTH, NARROWING = 0.5, 10.0
"""Bins of `reduced` are this wide in βr, but a 1/10 of their distance from the top near it."""
FINE = 4096
"""Bins of a law that is reduced once for many β."""
FAR, FAR_BINS, TOP_BINS = 400.0, 4096, 256
"""Below this distance from the top, and at β=∞, bins have equal mass; or, toward the top, equal
shares of what is above them."""


@dataclass(frozen=True)
class RewardLaw:
    """The rewards of real samples and of p_0's; p_t/p_ref depends on x through them alone."""

    reward: Array
    """Levels `(L,)`, strictly ascending."""
    reference: Array
    """p_ref `(L,)`."""
    initial: Array
    """p_0 `(L,)`."""
    sparse_classes: csr_array
    """p_ref of level and class `(L, C)`; C=0 where the data has none, or p_0 is not p_ref."""
    supremum: float | None
    """r*, if known."""
    edges: Array
    """Upper ends of all reward bins but the last `(Q-1,)`."""

    @classmethod
    def of(
        cls,
        reward: Array,
        classes: NDArray[np.int64] | None,
        n_classes: int,
        supremum: float | None,
    ) -> RewardLaw:
        """The law of equally likely real samples, with p_0 = p_ref.

        Args:
            reward: of each sample `(N,)`.
            classes: of each sample `(N,)`, if the data has classes.
            n_classes: C.
            supremum: r*, if known.
        """
        level, index, count = np.unique(reward, return_inverse=True, return_counts=True)
        shares = csr_array((len(level), n_classes))
        if classes is not None:
            each = np.full(len(reward), 1 / len(reward))
            shares = csr_array((each, (index, classes)), shape=shares.shape)
        weights = count / len(reward)
        return cls(level, weights, weights, shares, supremum, _edges(level, weights))

    def starting_from(self, reward: Array) -> RewardLaw:
        """The same real data, p_0 being the law of these rewards `(N,)`."""
        level, count = np.unique(reward, return_counts=True)
        union = np.union1d(self.reward, level)
        reference, initial = np.zeros(len(union)), np.zeros(len(union))
        reference[np.searchsorted(union, self.reward)] = self.reference
        initial[np.searchsorted(union, level)] = count / len(reward)
        nothing = csr_array((len(union), 0))
        return replace(
            self, reward=union, reference=reference, initial=initial, sparse_classes=nothing
        )

    @property
    def classes(self) -> Array:
        """`sparse_classes` with its zeros; for reduced laws, or few classes."""
        shares: Array = self.sparse_classes.toarray()
        return shares

    @property
    def starts_at_reference(self) -> bool:
        """Whether p_0 = p_ref."""
        return self.initial is self.reference

    def exp_reward(self, beta: float) -> Array:
        """e^{β(r - r*)} `(L,)`, for laws that know r*."""
        assert self.supremum is not None
        return np.exp(log_weights(np.append(self.reward, self.supremum), beta)[:-1])

    @property
    def bins(self) -> Array:
        """Which reward bin a level is in, 1 or 0 `(L, Q)`; bin q ends at edge q, included."""
        found: Array = np.eye(len(self.edges) + 1)[np.searchsorted(self.edges, self.reward)]
        return found

    @functools.cached_property
    def real_bins(self) -> Array:
        """Shares of the reward bins under p_ref `(Q,)`."""
        return self.reference @ self.bins

    def reduced(self, beta: float, iterations: int) -> RewardLaw:
        """A law of far fewer levels that gives the same curves for this β and so many iterations.

        Levels close in βr become the two that have the same mass and first three moments (their
        Gauss rule). Near the top, where laws concentrate as iterations pass, levels stay apart.
        Curves move by less than 1e-5 of the reward's range, shares of classes by less than 2e-4.
        """
        if len(self.reward) <= EXACT_LEVELS:
            return self
        fine = beta * (self.reward[-1] - self.reward[0]) < FINE * WIDTH / 4
        law = self._fine if fine and len(self.reward) > FINE else self
        level = log_weights(law.reward, beta)
        return law._merged(law._bins(level, 0.3 / max(iterations, 1), FAR))

    @functools.cached_property
    def _fine(self) -> RewardLaw:
        """A law that serves every β of ordinary size, and is quicker to reduce."""
        level = FINE * WIDTH * (self.reward / (self.reward[-1] - self.reward[0]))
        return self._merged(self._bins(level - level[-1], 1e-5, math.inf))

    def _merged(self, bins: NDArray[np.int64]) -> RewardLaw:
        """Two levels for each bin."""
        classes = self.sparse_classes
        level, reference, classes = _two_points(self.reward, self.reference, classes, bins)
        initial = reference
        if not self.starts_at_reference:
            more, measured, _ = _two_points(self.reward, self.initial, self.sparse_classes, bins)
            union, index = np.unique(np.concatenate([level, more]), return_inverse=True)
            initial = _sum_at(index[len(level) :], measured, len(union))
            reference = _sum_at(index[: len(level)], reference, len(union))
            level, classes = union, csr_array((len(union), 0))
        return replace(
            self, reward=level, reference=reference, initial=initial, sparse_classes=classes
        )

    def _bins(self, level: Array, narrowest: float, farthest: float) -> NDArray[np.int64]:
        """Ascending numbers of the bins of levels `(L,)` that end at 0; none crosses an edge.

        At the top a bin is as wide as `narrowest`; beyond `farthest`, bins have equal mass.
        """
        narrowest = min(narrowest, WIDTH)
        turn = NARROWING * (WIDTH - narrowest)
        far = -level > farthest
        distance = np.minimum(-level, farthest)
        near = NARROWING * np.log1p(np.minimum(distance, turn) / (NARROWING * narrowest))
        number = np.ceil(near + np.maximum(distance - turn, 0) / WIDTH)
        weights = (self.initial + self.reference) / 2
        above = weights[::-1].cumsum()[::-1]
        number[far] = -1 - np.floor(FAR_BINS * (1 - above[far]))
        number[far] += np.floor(TOP_BINS * np.log(above[far]))
        edge = np.searchsorted(self.edges, self.reward)
        changes = (np.diff(number) != 0) | (np.diff(edge) != 0)
        return np.concatenate([[0], changes.cumsum()])


def _edges(level: Array, weights: Array) -> Array:
    """Upper ends of bins of about equal mass; a level that outweighs a bin has its own."""
    ends = np.searchsorted(weights.cumsum(), np.arange(1, BINS) / BINS)
    heavy = np.flatnonzero(weights >= 1 / BINS)
    ends = np.unique(np.concatenate([ends, heavy, heavy - 1]))
    return level[ends[(ends >= 0) & (ends < len(level) - 1)]]


def _two_points(
    reward: Array, weights: Array, classes: csr_array, bins: NDArray[np.int64]
) -> tuple[Array, Array, csr_array]:
    """Each bin's two-point Gauss rule: levels, weights, and classes of the same mass and mean."""
    present = weights > 0
    reward, weights, classes = reward[present], weights[present], classes[present]
    _, starts, bins = np.unique(bins[present], return_index=True, return_inverse=True)

    def total(values: Array) -> Array:
        summed: Array = np.add.reduceat(values, starts, axis=0)
        return summed

    mass = total(weights)
    mean = total(weights * reward) / mass
    off = reward - mean[bins]
    variance = total(weights * off**2) / mass
    single = variance <= 1e-24 * (reward[-1] - reward[0]) ** 2
    variance[single] = 1.0
    skew = total(weights * off**3) / mass / variance
    gap = np.sqrt(skew**2 + 4 * variance)
    low, high = (skew - gap) / 2, (skew + gap) / 2
    low[single] = high[single] = 0.0
    gap[single] = 1.0
    upper = -low / gap
    # Rounding must not take a level across an edge, or from the supremum.
    least, most = reward[starts], reward[np.append(starts[1:], len(reward)) - 1]
    nodes = [(mean + low).clip(least, most), (mean + high).clip(least, most)]
    level, index = np.unique(np.concatenate(nodes), return_inverse=True)
    both = np.concatenate([mass * (1 - upper), mass * upper])
    shares = csr_array((len(level), classes.shape[1]))
    if classes.shape[1]:
        in_bin = _indicator(bins, len(starts))
        whole = in_bin @ classes
        moment = in_bin @ diags_array(off) @ classes
        above = diags_array(1 / gap) @ (moment - diags_array(low) @ whole)
        shares = csr_array(_indicator(index, len(level)) @ vstack([whole - above, above]))
    return level, _sum_at(index, both, len(level)), shares


def _sum_at(index: NDArray[np.int64], values: Array, count: int) -> Array:
    """Sums `(count,)` of the values `(N,)` that have the same index."""
    sums = np.zeros(count)
    np.add.at(sums, index, values)
    return sums


def _indicator(index: NDArray[np.int64], count: int) -> csr_array:
    """1 where column n belongs to row `index[n]` `(count, N)`."""
    columns = np.arange(len(index))
    return csr_array((np.ones(len(index)), (index, columns)), shape=(count, len(index)))


def real_law(config: Config, device: str = "cpu", cache: Folder | None = None) -> RewardLaw:
    """The law of a configuration's rewards on its real data, with p_0 = p_ref.

    It is worked out once in a process for the same data and reward, the last few being kept.

    Raises:
        LoopError: if the reward or data of the user's own break their contract.
        ConfigError: if the data or the reward cannot be built.
    """
    return _real_law(law_key(config), device, cache)


def law_key(config: Config) -> str:
    """What determines a configuration's law: points with the same key share it."""
    data: dict[str, Any] = config.data.model_dump()
    if isinstance(config.data, EightGaussiansConfig | TwoMoonsConfig):
        del data["size"]
    if isinstance(config.data, NpzConfig):
        copy = local_file("data.path", config.data.path)
        data["changed"] = [str(copy), copy.stat().st_mtime_ns]
    determining = {"data": data, "reward": config.reward.model_dump()}
    if config.classifier is not None:
        determining["classifier"] = config.classifier.model_dump()
        determining["resources"] = {"threads": config.resources.threads}
    return json.dumps(determining, sort_keys=True)


@functools.lru_cache(maxsize=4)
def _real_law(determining: str, device: str, cache: Folder | None) -> RewardLaw:
    given = json.loads(determining)
    given["data"].pop("changed", None)
    config = parse_config({"name": "law", **given})
    scorer = build_scorer(config, device, cache)
    rewards, classes = [], []
    cheap = not isinstance(config.reward, CustomRewardConfig)
    samples = _real_samples(scorer.dataset, cheap)
    while (chunk := _by_user(config, lambda: next(samples, None))) is not None:
        scores = _by_user(config, functools.partial(scorer, chunk.to(device)))
        rewards.append(scores.reward.double().cpu())
        if scores.classes is not None:
            classes.append(scores.classes.cpu())
    return RewardLaw.of(
        torch.cat(rewards).numpy(),
        torch.cat(classes).numpy() if classes else None,
        scorer.n_classes,
        scorer.supremum,
    )


def _by_user(config: Config, call: Callable[[], Any]) -> Any:
    """What `call` returns; data of the user's own may raise anything, which becomes one line."""
    if not isinstance(config.data, CustomDataConfig):
        return call()
    try:
        return call()
    except LoopError:
        raise
    except Exception as error:  # as said
        kind = type(error).__name__
        raise LoopError(f"data {config.data.name} raised {kind}: {error}") from error


def _real_samples(dataset: Dataset, cheap: bool) -> Iterator[Tensor]:
    """Real samples `(N, *shape)` in chunks; fewer of them unless scoring is cheap."""
    match dataset:
        case ArrayData():
            yield from torch.split(dataset.x, CHUNK)
        case ImageData():
            for first in range(0, len(dataset.images), CHUNK):
                yield dataset.images.scaled(slice(first, first + CHUNK))
        case QuasiRandom():
            engine: Any = torch.quasirandom.SobolEngine
            sobol = engine(dataset.uniforms, scramble=True, seed=0)
            for _ in range((QUASI_SAMPLE if cheap else SAMPLE) // CHUNK):
                yield dataset.from_uniform(sobol.draw(CHUNK, dtype=torch.float64))
        case _:
            count = min(dataset.size, CHUNK)
            for chunk in range(math.ceil(SAMPLE / count)):
                yield dataset.draw(count, rng.stream(0, "law", shard=chunk))
