"""Showing images to a network in chunks of one size, so that no result depends on the batch.

Libraries choose kernels by the batch's size, and other kernels may round otherwise.

Axes: B images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def chunks(images: Tensor, size: int) -> Iterator[tuple[Tensor, int]]:
    """Chunks `(size, ...)` of images `(B, ...)`, the last padded with zeros, and how many count."""
    for part in torch.split(images, size):
        missing = size - len(part)
        padded = (
            part if not missing else torch.cat([part, part.new_zeros(missing, *part.shape[1:])])
        )
        yield padded, len(part)


def seen_in_chunks(
    network: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor, size: int
) -> tuple[Tensor, ...]:
    """What a network says of images `(B, ...)`, `size` at a time, without gradients.

    Args:
        network: from `(size, ...)` to tensors with that leading axis.
        images: at least one.
        size: of a chunk; an image's result depends on its place among the images and on nothing
            else of them.
    """
    found = []
    with torch.no_grad():
        for chunk, count in chunks(images, size):
            found.append([column[:count] for column in network(chunk)])
    return tuple(torch.cat(columns) for columns in zip(*found, strict=True))
