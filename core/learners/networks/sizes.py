"""How large networks are, in closed form: nothing is built, whatever sizes are asked for.

Axes: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luceloop.core.learners.networks.unet import UNetConfig

NUMBER = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class NetworkSize:
    """What a network of one seed takes."""

    weights: int
    """How many there are."""
    trained: int
    """Bytes that a training step keeps for each sample of its batch."""
    sampled: int
    """Bytes that an evaluation without gradients takes at its peak for each sample."""


def mlp_size(dim: int, width: int, depth: int, *, by_autograd: bool = False) -> NetworkSize:
    """The size of a perceptron, see `EnsembleMLP`.

    Args:
        dim: coordinates of a sample.
        width: hidden units of a layer.
        depth: hidden layers.
        by_autograd: whether torch differentiates it, as on a GPU, where compiled kernels do not.
    """
    weights = (dim + 2) * width + (depth - 1) * (width + 1) * width + (width + 1) * max(2, dim)
    kept = (3 if by_autograd else 2) * depth * width + 2 * width + 4 * dim
    return NetworkSize(weights, NUMBER * kept, NUMBER * (2 * width if by_autograd else 4 * dim))


@dataclass(frozen=True)
class _Block:
    """So many residual blocks of one shape, or downsamplings, in a U-Net."""

    count: int
    inputs: int
    outputs: int
    positions: int
    """Pixels of an image."""
    attends: bool

    def weights(self, embedded: int) -> int:
        """Of one of them, its attention included."""
        inputs, outputs = self.inputs, self.outputs
        found = 2 * inputs + 9 * inputs * outputs + outputs + (embedded + 1) * outputs
        found += 2 * outputs + 9 * outputs**2 + outputs
        found += (inputs + 1) * outputs if inputs != outputs else 0
        return found + (_attention(outputs) if self.attends else 0)

    def trained(self, heads: int) -> int:
        """Numbers that one of them keeps of a sample for its gradient.

        Of every convolution its input, of every normalization and activation, too; what dropout
        keeps; and where there is attention, its maps, the weights among them.
        """
        found = (12 * self.inputs + 13 * self.outputs) * self.positions // 4
        if self.attends:
            found += 7 * self.outputs * self.positions + 2 * heads * self.positions**2
        return found


def unet_size(config: UNetConfig, shape: tuple[int, ...]) -> NetworkSize:
    """The size of torchcfm's U-Net for images `(channels, size, size)`.

    A sample's peak is where the last and largest maps are put together: their channels three times,
    as they are, normalized and activated, and the maps that are still to be put to others.
    """
    embedded, colours = 4 * config.channels, shape[0]
    first = config.multipliers[0] * config.channels
    weights = (config.channels + 1) * embedded + (embedded + 1) * embedded
    weights += (9 * colours + 1) * first + 2 * first + (9 * first + 1) * colours
    trained = 2 * first * shape[1] ** 2
    for block in _blocks(config, shape[1]):
        heads = (
            block.outputs // (config.head_channels or 1) if config.head_channels else config.heads
        )
        weights += block.count * block.weights(embedded)
        trained += block.count * block.trained(heads)
    for channels, positions in _resized(config, shape[1]):
        weights += (9 * channels + 1) * channels
        trained += 2 * channels * positions
    peak = max(3 * b.inputs * b.positions for b in _blocks(config, shape[1]))
    return NetworkSize(
        weights, NUMBER * trained, NUMBER * (peak + config.blocks * first * shape[1] ** 2)
    )


def _levels(config: UNetConfig, size: int) -> list[tuple[int, int, bool]]:
    """Channels, pixels and whether there is attention, at each level."""
    attended = {size // each for each in config.attention}
    found = []
    for level, multiplier in enumerate(config.multipliers):
        found.append((multiplier * config.channels, (size >> level) ** 2, 2**level in attended))
    return found


def _blocks(config: UNetConfig, size: int) -> Iterator[_Block]:
    """All residual blocks, those of one shape together."""
    levels, more = _levels(config, size), config.blocks - 1
    before = levels[0][0]
    for channels, positions, attends in levels:
        yield _Block(1, before, channels, positions, attends)
        yield _Block(more, channels, channels, positions, attends)
        before = channels
    middle, positions, _ = levels[-1]
    yield _Block(1, middle, middle, positions, True)
    yield _Block(1, middle, middle, positions, False)
    for level in range(len(levels) - 1, -1, -1):
        channels, positions, attends = levels[level]
        entering = levels[max(level - 1, 0)][0]
        yield _Block(1, before + channels, channels, positions, attends)
        yield _Block(more, 2 * channels, channels, positions, attends)
        yield _Block(1, channels + entering, channels, positions, attends)
        before = channels


def _resized(config: UNetConfig, size: int) -> Iterator[tuple[int, int]]:
    """Channels and pixels of what is halved on the way down and doubled on the way up."""
    levels = _levels(config, size)
    for channels, positions, _ in levels[:-1]:
        yield channels, positions
    for level in range(1, len(levels)):
        yield levels[level][0], levels[level - 1][1]


def _attention(channels: int) -> int:
    return 2 * channels + 3 * channels * (channels + 1) + channels * (channels + 1)
