"""Quality of pools of generated samples: how far they are from real ones.

Vectors are compared as they are, images in the feature space of a network. The Fréchet distance and
the width need only moments, which every shard reduces its samples to, so that a pool never has to
be in one place. Precision, recall and the sliced Wasserstein distance compare samples themselves,
the first ones of a pool.

Axes: R rows, N samples, F features; M samples of another set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.measures.sliced import Slices
from luceloop.core.measures.width import ClassMoments, width_ratio

CHUNK = 2**9
"""Samples whose distances to all others are held at a time."""
REAL_SLICED = 8
"""Real samples of the sliced distance for each one of the pool: they should add little noise."""
MOST_COORDINATES = 1024
"""The most coordinates that a vector may have where its quality is measured; moments are square."""


@dataclass(frozen=True)
class FeatureMoments:
    """Moments of each row's features, float64."""

    count: Tensor
    """`(R,)`."""
    mean: Tensor
    """`(R, F)`."""
    squares: Tensor
    """Sum of the outer products of deviations from the mean `(R, F, F)`."""

    @classmethod
    def of(cls, features: Tensor, mask: Tensor) -> FeatureMoments:
        """Moments of `features` `(R, N, F)` where `mask` `(R, N)` is true."""
        count = mask.sum(1).double()
        inside = mask[:, :, None]
        features = features.double().where(inside, 0)
        mean = features.sum(1) / count.clamp_min(1)[:, None]
        deviation = (features - mean[:, None]).where(inside, 0)
        return cls(count, mean, deviation.mT @ deviation)

    def __add__(self, other: FeatureMoments) -> FeatureMoments:
        """Moments of both sets together (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        share = other.count / count.clamp_min(1)
        outer = delta[:, :, None] * delta[:, None, :]
        squares = self.squares + other.squares + outer * (self.count * share)[:, None, None]
        return FeatureMoments(count, self.mean + delta * share[:, None], squares)

    def to(self, device: str | torch.device) -> FeatureMoments:
        """The same on a device."""
        return FeatureMoments(self.count.to(device), self.mean.to(device), self.squares.to(device))

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (ddof=1, as usual for FID) `(R, F, F)`; 0 for a single sample."""
        return self.squares / (self.count - 1).clamp_min(1)[:, None, None]


def frechet_distance(
    mean: Tensor,
    covariance: Tensor,
    real_mean: Tensor,
    real_covariance: Tensor,
    real_root: Tensor | None = None,
) -> Tensor:
    """|μ - μ'|² + tr(C + C' - 2(CC')^½), the FID of Heusel et al. (2017), float64 `(R,)`.

    A row whose moments are not finite has no finite distance, and leaves the others alone.

    Args:
        mean: μ `(R, F)`.
        covariance: C `(R, F, F)`.
        real_mean: μ' `(F,)` or `(R, F)`.
        real_covariance: C' `(F, F)` or `(R, F, F)`.
        real_root: C'^½, where it is known already.
    """
    # tr (CC')^½ is the sum of the roots of the eigenvalues of C'^½ C C'^½, which are the singular
    # values of C'^½ C^½; taken as these, zero eigenvalues do not become roots of rounding errors.
    finite = covariance.isfinite().all(-1).all(-1)[:, None, None]
    root = symmetric_root(real_covariance) if real_root is None else real_root
    product = root @ symmetric_root(covariance.where(finite, 0))
    common: Tensor = torch.linalg.svdvals(product).sum(-1)
    shift = (mean - real_mean).square().sum(-1)
    return (shift + _trace(covariance) + _trace(real_covariance) - 2 * common).clamp_min(0)


@dataclass(frozen=True)
class Neighbourhoods:
    """A ball about each sample that reaches to its k-th nearest other sample."""

    features: Tensor
    """Float64 `(N, F)`."""
    radius: Tensor
    """Float64 `(N,)`; 0 for a sample with k copies, NaN (nothing is inside) for one not finite."""
    neighbours: int
    """k."""

    @classmethod
    def of(cls, features: Tensor, neighbours: int) -> Neighbourhoods:
        """The balls about the samples `(N, F)`.

        Raises:
            ValueError: if k < 1, or there are not more than k samples.
        """
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, not {neighbours}")
        if len(features) <= neighbours:
            raise ValueError(
                f"{neighbours} nearest neighbours need at least {neighbours + 1} samples, "
                f"not {len(features)}"
            )
        features = features.double()
        nearest = [
            # A sample is itself among those nearest to it, at distance 0.
            _distance(chunk, features).topk(neighbours + 1, largest=False).values.amax(1)
            for chunk in torch.split(features, CHUNK)
        ]
        radius = torch.cat(nearest)
        return cls(features, radius.where(radius.isfinite(), torch.nan), neighbours)


def precision_recall(real: Neighbourhoods, features: Tensor) -> tuple[float, float]:
    """Improved precision and recall of Kynkäänniemi et al. (2019, arXiv 1904.06991).

    Precision is the share of generated samples in some real sample's ball, recall the share of
    real samples in some generated sample's ball; balls include their surfaces.

    Args:
        real: balls about the real samples.
        features: of the generated samples `(M, F)`.

    Raises:
        ValueError: if there are not more than k generated samples.
    """
    generated = Neighbourhoods.of(features.to(real.features.device), real.neighbours)
    covered = torch.zeros_like(real.radius, dtype=torch.bool)
    hits = 0
    chunks = torch.split(generated.features, CHUNK)
    for chunk, radius in zip(chunks, torch.split(generated.radius, CHUNK), strict=True):
        distance = _distance(chunk, real.features)
        hits += int((distance <= real.radius).any(1).sum())
        covered |= (distance <= radius[:, None]).any(0)
    return hits / len(features), float(covered.double().mean())


@dataclass(frozen=True)
class RealFeatures:
    """What pools are compared with."""

    mean: Tensor
    """`(F,)`."""
    covariance: Tensor
    """`(F, F)`."""
    root: Tensor
    """Of the covariance `(F, F)`."""
    neighbourhoods: Neighbourhoods
    slices: Slices | None
    """The same samples along random directions; None for images."""
    variance: Tensor | None
    """Of each real class, for the width `(C,)`; None for images."""

    @classmethod
    def of(
        cls, features: Tensor, samples: int, neighbours: int, spread: ClassMoments | None = None
    ) -> RealFeatures:
        """Moments of all real features `(N, F)`, balls about some of them, on their device.

        Args:
            features: of the real samples.
            samples: how many of them pools are compared with, sample by sample.
            neighbours: k of the balls.
            spread: of the real samples, of which there is one row; None for images.

        Raises:
            ValueError: if there are not more than `neighbours` real samples.
        """
        everything = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        moments = FeatureMoments.of(features[None], everything)
        order = torch.randperm(len(features), generator=rng.stream(0, "quality"))
        chosen = features[order[:samples].to(features.device)]
        balls = Neighbourhoods.of(chosen, neighbours)
        mean, covariance = moments.mean[0], moments.covariance[0]
        root = symmetric_root(covariance)
        if spread is None:
            return cls(mean, covariance, root, balls, None, None)
        more = features[order[: REAL_SLICED * samples].to(features.device)].cpu()
        variance = spread.squares[0] / spread.count[0].clamp_min(1)
        return cls(mean, covariance, root, balls, Slices.of(more), variance)


@dataclass(frozen=True)
class ShardFeatures:
    """What the quality of a pool needs of one shard."""

    moments: FeatureMoments
    some: Tensor
    """Features of the first samples of the pool, as far as they are in this shard `(R, M, F)`."""
    spread: ClassMoments | None
    """Of vectors within their classes; None for images."""

    def __add__(self, after: ShardFeatures) -> ShardFeatures:
        """Of both shards together; `after` is the later one."""
        spread = None
        if self.spread is not None and after.spread is not None:
            spread = self.spread + after.spread
        some = torch.cat([self.some, after.some], 1)
        return ShardFeatures(self.moments + after.moments, some, spread)


def quality_metrics(features: ShardFeatures, pool: Tensor, real: RealFeatures) -> dict[str, Tensor]:
    """Metrics of a pool by name, each float64 `(R,)`.

    Args:
        features: of the whole pool.
        pool: samples of each row's pool, int64 `(R,)`.
        real: what the pool is compared with.
    """
    moments = features.moments.to(real.mean.device)
    distance = frechet_distance(
        moments.mean, moments.covariance, real.mean, real.covariance, real.root
    ).cpu()
    rows = [row[:size] for row, size in zip(features.some, pool.tolist(), strict=True)]
    pairs = [precision_recall(real.neighbourhoods, row) for row in rows]
    precision, recall = torch.tensor(pairs, dtype=torch.float64).T
    metrics = {"frechet_distance": distance, "precision": precision, "recall": recall}
    if real.slices is not None:
        sliced = [real.slices.distance(row) for row in rows]
        metrics["sliced_wasserstein"] = torch.tensor(sliced, dtype=torch.float64)
    if real.variance is not None and features.spread is not None:
        metrics["width_ratio"] = width_ratio(features.spread, real.variance)
    return metrics


def symmetric_root(matrix: Tensor) -> Tensor:
    """The symmetric root of positive semidefinite matrices `(..., F, F)`."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors * values.clamp_min(0).sqrt()[..., None, :] @ vectors.mT
    return root


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _distance(left: Tensor, right: Tensor) -> Tensor:
    """Distances `(N, M)` of `left` `(N, F)` to `right` `(M, F)`, from differences: no cancelling.

    A pair's distance has the same bits in any order and in any chunk.
    """
    return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
