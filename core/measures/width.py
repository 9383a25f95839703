"""Width: how far samples spread within their classes, against how far the real data does.

A learner that blurs keeps every class share and mean while its classes grow wider; the ratio of the
spreads sees that. Which coordinates count is the dataset's to say: of a curved class, such as a
moon, those across it.

Axes: R rows, N samples, C classes, W coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassMoments:
    """Count, mean and squared deviations of every class of every row, float64."""

    count: Tensor
    """`(R, C)`."""
    mean: Tensor
    """`(R, C, W)`; 0 for a class without samples."""
    squares: Tensor
    """Sum of squared distances from the class's own mean `(R, C)`."""

    @classmethod
    def of(cls, values: Tensor, classes: Tensor, mask: Tensor, n_classes: int) -> ClassMoments:
        """Moments of `values` `(R, N, W)` by `classes` `(R, N)` where `mask` `(R, N)` is true."""
        # Sums on a GPU may differ in the last bits from one time to the next.
        values, classes, mask = values.double().cpu(), classes.cpu(), mask.double().cpu()
        count = _sum_by(classes, mask[..., None], n_classes)[..., 0]
        total = _sum_by(classes, values * mask[..., None], n_classes)
        mean = total / count.clamp_min(1)[..., None]
        own = mean.gather(1, classes[..., None].expand(*classes.shape, values.shape[-1]))
        squared = (values - own).square().sum(-1, keepdim=True) * mask[..., None]
        return cls(count, mean, _sum_by(classes, squared, n_classes)[..., 0])

    def __add__(self, other: ClassMoments) -> ClassMoments:
        """Moments of both sets together (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        share = other.count / count.clamp_min(1)
        delta = other.mean - self.mean
        squares = self.squares + other.squares + delta.square().sum(-1) * self.count * share
        return ClassMoments(count, self.mean + delta * share[..., None], squares)


def width_ratio(moments: ClassMoments, real: Tensor) -> Tensor:
    """The spread within classes in units of the real data's, float64 `(R,)`; 1 for p_ref itself.

    It is the root of the mean, over samples, of the squared distance from the mean of the sample's
    class, each in units of the real class's variance: shares of classes do not matter.

    Args:
        moments: of the pools.
        real: variance of each real class, summed over coordinates `(C,)`. Classes where it is 0,
            which no ratio is of, are left out.
    """
    known = real > 0
    squares = (moments.squares[:, known] / real[known]).sum(1)
    return (squares / moments.count[:, known].sum(1)).sqrt()


def _sum_by(classes: Tensor, values: Tensor, n_classes: int) -> Tensor:
    """Sums `(R, C, W)` of the values `(R, N, W)` of each class."""
    sums = torch.zeros(len(values), n_classes, values.shape[-1], dtype=torch.float64)
    return sums.scatter_add_(1, classes[..., None].expand_as(values), values)
