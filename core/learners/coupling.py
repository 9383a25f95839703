"""Minibatch optimal transport between noise and data (Tong et al. 2023, arXiv 2302.00482).

An exact plan between two batches of equal size is a permutation, so every sample of the batch
is used once. Plans are computed within sub-batches: the cost of one grows with the cube of its
size, while most of the straightening comes from small plans.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def couple(x_0: Tensor, x_1: Tensor, ot_batch: int) -> Tensor:
    """Reorder noise so that each sub-batch is optimally coupled to its data.

    Args:
        x_0: noise `(..., B, d)`.
        x_1: data of the same shape.
        ot_batch: samples in a sub-batch; the last one is smaller where it does not divide B.

    Returns:
        A permutation of `x_0` within each sub-batch, paired with `x_1` by position, that
        minimizes the summed squared distance.
    """
    if ot_batch == 1:
        return x_0
    batch = x_0.shape[-2]
    whole = batch - batch % ot_batch
    parts = [slice(0, whole)] if whole else []
    parts += [slice(whole, batch)] if whole < batch else []
    return torch.cat(
        [_couple_equal(x_0[..., part, :], x_1[..., part, :], ot_batch) for part in parts],
        dim=-2,
    )


def _couple_equal(x_0: Tensor, x_1: Tensor, ot_batch: int) -> Tensor:
    size = min(ot_batch, x_0.shape[-2])
    noise = x_0.reshape(-1, size, x_0.shape[-1])
    data = x_1.reshape(-1, size, x_1.shape[-1])
    # |x_1 - x_0|² = |x_1|² + |x_0|² - 2 x_1·x_0, and only the last term depends on the pairing.
    cost = (noise @ data.transpose(1, 2)).neg_().double()
    # Taking out what a row or a column has in common leaves the plan as it is, found twice as fast.
    cost -= cost.amin(2, keepdim=True)
    cost -= cost.amin(1, keepdim=True)
    matched = np.stack([linear_sum_assignment(c)[1] for c in cost.cpu().numpy()])
    index = torch.from_numpy(matched).to(x_0.device)[..., None].expand_as(noise)
    return torch.empty_like(noise).scatter_(1, index, noise).reshape(x_0.shape)
