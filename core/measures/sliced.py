"""Sliced 2-Wasserstein distance: how far samples are from real ones along fixed random directions.

Along one direction, W2² = ∫ (F⁻¹(u) - G⁻¹(u))² du is a sum over the sorted projections; the sliced
distance is the root of its mean over directions (Bonneel et al. 2015). The directions are the same
for every pool, so distances can be compared.

Axes: N samples, M real samples, F coordinates, D directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from luceloop.core import rng

DIRECTIONS = 64
"""Directions that samples are projected on, D."""


@dataclass(frozen=True)
class Slices:
    """Real samples as they lie along each direction."""

    directions: Tensor
    """Unit vectors, float64 `(F, D)`."""
    projected: Tensor
    """The real samples' sorted projections, float64 `(D, M)`."""

    @classmethod
    def of(cls, real: Tensor) -> Slices:
        """Project real samples `(M, F)` on `DIRECTIONS` directions that depend on F alone."""
        generator = rng.stream(0, "directions")
        drawn = torch.randn(real.shape[1], DIRECTIONS, generator=generator, dtype=torch.float64)
        directions = drawn / drawn.norm(dim=0)
        return cls(directions, _sorted_projections(real, directions))

    def distance(self, samples: Tensor) -> float:
        """The distance of samples `(N, F)`, in their own unit; N need not be M."""
        projected = _sorted_projections(samples, self.directions)
        return float(wasserstein_squared(projected, self.projected).mean().sqrt())


def wasserstein_squared(left: Tensor, right: Tensor) -> Tensor:
    """W2² in one dimension between samples of equal weight, exactly, for any two sizes.

    Args:
        left: ascending `(..., N)`.
        right: ascending `(..., M)`.

    Returns:
        `(...)`, in the samples' unit squared.
    """
    n, m = left.shape[-1], right.shape[-1]
    # Both quantile functions are steps; in units of 1/(nm) they step at whole numbers.
    steps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n])
    ends = steps.sort().values  # a step of both has width 0 the second time
    weight = torch.diff(ends, prepend=ends.new_zeros(1)).double() / (n * m)
    step = ends - 1
    gap = left[..., step // m] - right[..., step // n]
    squared: Tensor = gap.square() @ weight
    return squared


def _sorted_projections(samples: Tensor, directions: Tensor) -> Tensor:
    """Ascending projections `(D, N)` of samples `(N, F)`."""
    return (samples.double() @ directions).T.sort().values
