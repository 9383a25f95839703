"""One step of Adam on a CPU, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from luceloop.core.compiled import compiled

Vector = np.ndarray[Any, np.dtype[np.float32]]


@compiled
def step(
    weights: Vector,
    gradient: Vector,
    average: Vector,
    square: Vector,
    rate: float,
    root_scale: float,
    decay: float,
    square_decay: float,
    epsilon: float,
    start: int,
    stop: int,
) -> None:
    """Change entries `start` to `stop` of the weights, and of both averages.

    Args:
        weights: `(W,)`.
        gradient: `(W,)`.
        average: of gradients `(W,)`.
        square: average of their squares `(W,)`.
        rate: learning rate over 1 - decay^steps.
        root_scale: 1 / √(1 - square_decay^steps).
        decay: of `average`.
        square_decay: of `square`.
        epsilon: added to the root.
        start: the first entry.
        stop: the entry to stop before.
    """
    new, new_square = np.float32(1 - decay), np.float32(1 - square_decay)
    length, scale, least = np.float32(rate), np.float32(root_scale), np.float32(epsilon)
    # Parts that begin at 0 take no check for negative indices, and so whole vectors at a time.
    weights, gradient = weights[start:stop], gradient[start:stop]
    average, square = average[start:stop], square[start:stop]
    for i in range(len(weights)):
        g = gradient[i]
        mean = average[i] + new * (g - average[i])
        mean_square = square[i] + new_square * (g * g - square[i])
        average[i], square[i] = mean, mean_square
        weights[i] -= length * mean / (np.sqrt(mean_square) * scale + least)
