"""Images in chunks: what a network says of one depends on no batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from luceloop.core.classifier.chunks import chunks, seen_in_chunks


@pytest.mark.parametrize("count", [1, 7, 8, 9, 24])
def test_every_chunk_has_one_size_and_every_image_comes_back_in_order(count):
    images, sizes = torch.arange(float(count))[:, None] + 1, []

    def network(x: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        return 2 * x, x[:, 0] + 0.5

    doubled, shifted = seen_in_chunks(network, images, 8)
    assert torch.equal(doubled, 2 * images) and torch.equal(shifted, images[:, 0] + 0.5)
    assert set(sizes) == {8} and len(sizes) == -(-count // 8)


def test_padding_is_zero():
    [(chunk, count)] = chunks(torch.ones(3, 2), 5)
    assert count == 3 and torch.equal(chunk[3:], torch.zeros(2, 2))


def test_an_image_gets_the_same_bits_however_many_are_beside_it():
    generator = torch.Generator().manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1152, 10)
    )
    images = torch.randn(40, 3, 8, 8, generator=generator)
    [everything] = seen_in_chunks(lambda x: (layers(x),), images, 16)
    for count in (1, 5, 17, 33):
        [some] = seen_in_chunks(lambda x: (layers(x),), images[:count], 16)
        assert torch.equal(some, everything[:count])
