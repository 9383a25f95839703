"""Minibatch optimal transport between noise and data (Tong et al. 2023, arXiv 2302.00482).

An exact plan between two batches of equal size is a permutation, so every sample of the batch
is used once. Plans are computed within sub-batches: the cost of one grows with the cube of its
size, while most of the straightening comes from small plans.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from luceloop.core.compiled import in_parts


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
    from luceloop.core.learners import (
        assignment,  # compiled, which other learners need not wait for
    )

    size = min(ot_batch, x_0.shape[-2])
    # |x_1 - x_0|² = |x_1|² + |x_0|² - 2 x_1·x_0, and only the last term depends on the pairing.
    noise, data = (x.reshape(-1, size, x.shape[-1]).cpu().contiguous() for x in (x_0, x_1))
    coupled = torch.empty_like(noise)
    arrays = noise.numpy(), data.numpy(), coupled.numpy()
    in_parts(functools.partial(assignment.couple_all, *arrays), len(noise))
    return coupled.to(x_0.device).reshape(x_0.shape)
