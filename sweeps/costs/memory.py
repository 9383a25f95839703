"""How much memory a trial takes, estimated from shapes; nothing is built or allocated for it.

A trial holds its data and the states of its seeds throughout, and beside them, one after another,
what each of its phases takes: training a classifier, training the next models, generating a pool.
A sampler holds the data and what a pool takes. How near the estimate comes is in docs/costs.md.

Axes: R seeds, B batch, N samples, M kept samples, d coordinates, F features.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from luceloop.core.classifier.small_cnn import SmallCNNConfig
from luceloop.core.classifier.training import CHUNK as JUDGED
from luceloop.core.config.point import PointConfig
from luceloop.core.learners.empirical import EmpiricalConfig
from luceloop.core.learners.gaussian import GaussianConfig
from luceloop.core.learners.networks.sizes import NUMBER, NetworkSize, mlp_size, unet_size
from luceloop.core.learners.otcfm import OTCFMConfig
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.core.learners.regression.regression import CHUNK
from luceloop.core.pool.rows import Sizes
from luceloop.core.pool.shards import shard_length

PROCESS, CODE = 500_000_000, 350_000_000
"""Bytes of a process that has imported all it needs, and of compiled code that processes share."""
OF_IMAGES = 200_000_000
"""Bytes more where samples are images, whose libraries are imported besides."""
SCORED = 8192
"""Real samples that are scored at a time, for the law of their rewards."""
DRAWN = 5
"""Arrays of a training step's batch that are there at a time."""
SOLVED = 12
"""Arrays of a shard's samples that are there at a time, while they are generated and scored."""
VGG_WEIGHTS, VGG_MAPS = 28_000_000, 450_000
"""Of the classifier vgg11_bn: weights, and numbers that training keeps of an image."""
INCEPTION = 2048
"""Features of Inception, and of a classifier at the most."""


@dataclass(frozen=True)
class Part:
    """A part of a trial's memory, and the keys that it grows with.

    Example:
        Part(64e6, ("seeds", "learner.width"), on_device=True)
    """

    size: float
    """Bytes."""
    keys: tuple[str, ...]
    on_device: bool = False
    """Whether it lies on the GPU, where a trial has one."""


@dataclass(frozen=True)
class Memory:
    """What a trial takes."""

    process: tuple[Part, ...]
    """What each of its processes holds throughout."""
    trial: tuple[Part, ...]
    """What the trial's own holds besides."""
    phases: tuple[tuple[Part, ...], ...]
    """What it takes one after another."""
    shard: tuple[Part, ...]
    """What a sampler takes, too, of that of the pool."""
    samplers: int = 0
    on_gpu: bool = False
    points: int = 1
    """That share it, all of this size."""

    @property
    def host(self) -> float:
        """Bytes of the machine's memory that all processes of the trial take."""
        each = self._size(self.trial) + max(map(self._size, self.phases))
        others = self.samplers * self.of_sampler
        return CODE + self._size(self.process) + self.points * each + others

    @property
    def of_sampler(self) -> float:
        """Bytes of the machine's memory that each sampler takes; weights are shared."""
        return self._size(self.process) + self._size(self.shard)

    @property
    def device(self) -> float:
        """Bytes of a GPU's memory; 0 without one."""
        if not self.on_gpu:
            return 0.0
        most = max(self._size(part, True) for part in self.phases)
        return self.points * (self._size(self.trial, True) + most)

    def parts(self, *, on_device: bool = False) -> list[Part]:
        """The parts in the machine's memory, or in the GPU's."""
        every = [*self.process, *self.trial, *(part for phase in self.phases for part in phase)]
        return [part for part in every if self._counts(part, on_device)]

    def _size(self, parts: Iterable[Part], on_device: bool = False) -> float:
        return math.fsum(part.size for part in parts if self._counts(part, on_device))

    def _counts(self, part: Part, on_device: bool) -> bool:
        return (part.on_device and self.on_gpu) == on_device


@dataclass(frozen=True)
class DataShape:
    """What a point's memory depends on of its data.

    Example:
        DataShape((3, 32, 32), size=50_000, held=60_000, sizes=Sizes(50_000, 0, 50_000))
    """

    sample: tuple[int, ...]
    size: int
    """Real samples of each seed."""
    held: int
    """Real samples that a process holds; 0 where they are drawn from a law."""
    is_labelled: bool
    """Whether they are labelled images, which are held as bytes."""
    sizes: Sizes
    """Of training sets and pools."""

    @property
    def dim(self) -> int:
        """Coordinates of a sample, d."""
        return math.prod(self.sample)

    @property
    def bytes(self) -> int:
        """Of a sample in float32."""
        return self.dim * NUMBER


def estimate_memory(
    point: PointConfig,
    shape: DataShape,
    *,
    samplers: int = 0,
    on_gpu: bool = False,
    points: int = 1,
) -> Memory:
    """What a trial of a point, or of several alike, takes; of code of the user's nothing is known.

    Args:
        point: one point, with all its seeds.
        shape: of its data.
        samplers: of the trial.
        on_gpu: whether it computes on a GPU.
        points: of the trial.
    """
    network = _network(point, shape, on_gpu=on_gpu)
    held = shape.held * shape.dim * (2 if shape.is_labelled else 3 * NUMBER)
    process = (
        Part(PROCESS + OF_IMAGES * (len(shape.sample) == 3), ()),
        Part(held, ("data.image_size", "data.size")),
        Part(SCORED * 5 * shape.bytes, ("data.image_size", "data.dim")),
    )
    trial, training = _sets(point, shape)
    if network is not None and isinstance(point.learner, RegressionConfig):
        trial.append(_states(point, point.learner, shape, network))
        training += _training(point, point.learner, shape, network, on_gpu=on_gpu)
    trial += _statistics(point, shape)
    shard = tuple(_shard(point, shape, network))
    pool = *shard, *_gathered(point, shape)
    phases = tuple(_classifying(point, shape)), tuple(training), pool
    return Memory(process, tuple(trial), phases, shard, samplers, on_gpu, points)


def _network(point: PointConfig, shape: DataShape, *, on_gpu: bool) -> NetworkSize | None:
    learner, sample = point.learner, shape.sample
    if not isinstance(learner, RegressionConfig) or len(sample) not in (1, 3):
        return None
    if len(sample) == 1:
        return mlp_size(sample[0], learner.width, learner.depth, by_autograd=on_gpu)
    return unet_size(learner.unet, sample)


def _network_keys(shape: DataShape) -> tuple[str, ...]:
    if len(shape.sample) == 1:
        return "learner.width", "learner.depth"
    return "learner.unet.channels", "learner.unet.multipliers", "learner.unet.blocks"


def _sets(point: PointConfig, shape: DataShape) -> tuple[list[Part], list[Part]]:
    """Real and kept samples: what a trial holds of them, and the training sets it makes."""
    seeds, sizes = len(point.seeds), shape.sizes
    diet = point.training.synthetic
    kept = 1 if diet == "replace" else max(1, point.iterations)
    trained = kept if diet == "accumulate" else 1
    longest = max(shape.size, sizes.real + trained * sizes.kept)
    given = tuple(key for key in ("real_size", "kept_size") if getattr(point, key) is not None)
    keys = ("seeds", *(given or ("data.size",)), "lam", *(["iterations"] if kept > 1 else []))
    held = [
        Part(seeds * shape.size * shape.bytes if sizes.real else 0, ("seeds", "data.size")),
        Part(seeds * sizes.kept * shape.bytes * (1 + kept), keys),
    ]
    return held, [Part(2 * seeds * longest * shape.bytes, (*keys, "data.size"))]


def _states(
    point: PointConfig, learner: RegressionConfig, shape: DataShape, network: NetworkSize
) -> Part:
    """Weights of all seeds, their average, and Adam's moments, which p_0 always has."""
    each = len(point.seeds) * network.weights * NUMBER
    copies = 3 + (learner.ema is not None)
    return Part(copies * each, ("seeds", *_network_keys(shape)), on_device=True)


def _training(
    point: PointConfig,
    learner: RegressionConfig,
    shape: DataShape,
    network: NetworkSize,
    *,
    on_gpu: bool,
) -> list[Part]:
    """What a training takes: of all seeds at once, or of one where networks are large."""
    own, images, batch = _network_keys(shape), len(shape.sample) == 3, learner.batch_size
    seeds = 1 if images else len(point.seeds)
    averaged = learner.ema is not None
    after = 1 + averaged + 2 * learner.carry_optimizer
    # Weights, gradients and moments, and what comes of them; or p_0 on its way to the cache.
    run = seeds * (4 + 2 * averaged + max(1, after) + images)
    cached = len(point.seeds) * (3 + averaged) * (1 if images else 2)
    at_once = seeds if on_gpu else min(seeds, point.resources.threads)
    steps = min(CHUNK, learner.first_steps) * seeds * batch * (2 if on_gpu else 1)
    rows = () if images else ("seeds",)
    parts = [
        Part(max(run, cached) * network.weights * NUMBER, ("seeds", *own), on_device=True),
        Part(steps * (DRAWN * shape.bytes + 24), (*rows, "learner.batch_size")),
        Part(at_once * batch * network.trained, (*rows, "learner.batch_size", *own), True),
    ]
    if isinstance(learner, OTCFMConfig):
        coupled = min(learner.ot_batch, batch)
        parts.append(Part(8 * coupled**2, ("learner.ot_batch", "learner.batch_size")))
    return parts


def _statistics(point: PointConfig, shape: DataShape) -> list[Part]:
    """States of learners without a network."""
    seeds, sizes = len(point.seeds), shape.sizes
    longest = max(shape.size, sizes.real + sizes.kept)
    if isinstance(point.learner, EmpiricalConfig):
        return [Part(2 * seeds * longest * shape.bytes, ("seeds", "data.size"))]
    if isinstance(point.learner, GaussianConfig):
        return [Part((2 * seeds + 5) * 8 * shape.dim**2, ("seeds", "data.dim"))]
    return []


def _classifying(point: PointConfig, shape: DataShape) -> list[Part]:
    """Training a classifier, and judging it."""
    config = point.classifier
    if config is None or len(shape.sample) != 3:
        return []
    if isinstance(config, SmallCNNConfig):
        weights, maps = 70 * config.width**2, 6 * config.width * math.prod(shape.sample[1:])
    else:
        weights, maps = VGG_WEIGHTS, VGG_MAPS
    return [
        Part(4 * weights * NUMBER, ("classifier.width",), on_device=True),
        Part(
            max(config.batch_size, JUDGED / 2) * maps * NUMBER,
            ("classifier.batch_size", "classifier.width"),
            on_device=True,
        ),
    ]


def _shard(point: PointConfig, shape: DataShape, network: NetworkSize | None) -> list[Part]:
    """Generating and scoring a shard of a pool."""
    seeds, shard = len(point.seeds), _shard_of(point, shape)
    rows = 1 if len(shape.sample) == 3 else seeds
    size = seeds * shard * SOLVED * shape.bytes
    keys = "seeds", "sampling.shard_size", "data.image_size"
    parts = [Part(size, keys, on_device=True), *_quality(point, shape, shard)]
    if network is not None:
        own = "sampling.shard_size", *_network_keys(shape)
        parts.append(Part(rows * shard * network.sampled, own, on_device=True))
    return parts


def _shard_of(point: PointConfig, shape: DataShape) -> int:
    return min(shard_length(point.k, point.sampling.shard_size), shape.sizes.pool)


def _gathered(point: PointConfig, shape: DataShape) -> list[Part]:
    """What is gathered of a whole pool."""
    seeds, sizes = len(point.seeds), shape.sizes
    given = tuple(k for k in ("pool_size", "kept_size") if getattr(point, k) is not None)
    keys = ("seeds", *(given or ("data.size",)), "curation.k", "lam")
    shown = min(point.sampling.preview, sizes.pool)
    whole = sizes.pool if point.curation.is_custom else 0
    shards = -(-sizes.pool // _shard_of(point, shape))
    choices = shards * sizes.kept if math.isinf(point.k) else 0
    own = max((each.samples for each in point.metrics.values()), default=0)
    return [
        Part(seeds * (sizes.pool * 3 * NUMBER + choices * 12), keys),
        Part(seeds * (sizes.kept + 2 * whole) * shape.bytes, keys),
        Part(4 * seeds * shown * shape.bytes, ("seeds", "sampling.preview")),
        Part(2 * seeds * min(own, sizes.pool) * shape.bytes, ("seeds",)),
    ]


def _quality(point: PointConfig, shape: DataShape, shard: int) -> list[Part]:
    """Features of the pool's samples, and their moments."""
    if point.quality is None:
        return []
    features = INCEPTION if shape.is_labelled else shape.dim
    compared = min(point.quality.samples, shape.sizes.pool)
    each = 3 * 8 * features**2 + 2 * 8 * shard * features + 3 * NUMBER * compared * features
    return [Part(len(point.seeds) * each, ("seeds", "quality.samples", "data.dim"))]
