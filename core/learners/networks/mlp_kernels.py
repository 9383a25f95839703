"""The perceptrons of an ensemble on a CPU, compiled: one after another, its layers in cache.

A network's numbers depend on its own arrays alone, so they are bitwise the same in any ensemble.
Outputs and gradients are those of `EnsembleMLP` in torch up to rounding.

Axes: R networks, L layers, B batch, d coordinates. Arrays are float32 and contiguous. `weights` are
L arrays `(R, inputs, outputs)`, `biases` L arrays `(R, 1, outputs)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from luceloop.core.compiled import compiled, inlined

Array = np.ndarray[Any, np.dtype[np.float32]]
Arrays = tuple[Array, ...]

TILE = 256
"""Points that pass through all layers together: few enough to stay in the cache."""
SELU_SCALE = np.float32(1.0507009873554805)
SELU_SCALE_ALPHA = np.float32(1.0507009873554805 * 1.6732632423543772)

ZERO, HALF, ONE, TWO = (np.float32(value) for value in (0, 0.5, 1, 2))
LARGEST = np.float32(87)
"""Beyond which e^x, or e^-x, is no normal float32."""
LOG2_E, LN2_HIGH, LN2_LOW = (np.float32(x) for x in (1.44269504, 0.693359375, -2.12194440e-4))
POLYNOMIAL = tuple(
    np.float32(x)
    for x in (1.98756915e-4, 1.39819995e-3, 8.33345191e-3, 4.16657959e-2, 1.66666655e-1)
)
"""Coefficients of r^7 to r^3 in e^r for |r| ≤ ln(2)/2, as in the Cephes library's expf."""


@inlined
def exponential(x: np.float32) -> np.float32:
    """e^x to the last bit or two, for |x| ≤ 87; NaN of NaN. Vectorizes, unlike libm's."""
    power = np.floor(x * LOG2_E + HALF)
    rest = x - power * LN2_HIGH - power * LN2_LOW
    series = POLYNOMIAL[0]
    series = series * rest + POLYNOMIAL[1]
    series = series * rest + POLYNOMIAL[2]
    series = series * rest + POLYNOMIAL[3]
    series = series * rest + POLYNOMIAL[4]
    series = (series * rest + HALF) * rest * rest + rest + ONE
    exponent = np.int32((power + np.float32(127)) * np.float32(8388608))  # of 2^power, in place
    scaled: np.float32 = series * exponent.view(np.float32)
    return scaled


@compiled
def _selu(h: Array, bias: Array, slope: Array) -> None:
    """Make h `(B, outputs)` selu(h + bias), and `slope` its derivative there."""
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            x = h[i, j] + bias[j]
            below = -LARGEST if x < -LARGEST else x  # NaN stays NaN
            below = ZERO if below > ZERO else below
            grown = SELU_SCALE_ALPHA * exponential(below)
            h[i, j] = SELU_SCALE * x if x > ZERO else grown - SELU_SCALE_ALPHA
            slope[i, j] = SELU_SCALE if x > ZERO else grown


@compiled
def _silu(h: Array, bias: Array, slope: Array) -> None:
    """Make h `(B, outputs)` silu(h + bias), and `slope` its derivative there."""
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            x = h[i, j] + bias[j]
            inside = -LARGEST if x < -LARGEST else x
            inside = LARGEST if inside > LARGEST else inside
            sigmoid = ONE / (ONE + exponential(-inside))
            h[i, j] = x * sigmoid
            slope[i, j] = sigmoid + x * sigmoid * (ONE - sigmoid)


@compiled
def _activate(h: Array, bias: Array, slope: Array, selu: bool) -> None:
    if selu:
        _selu(h, bias, slope)
    else:
        _silu(h, bias, slope)


@compiled
def _add(h: Array, bias: Array) -> None:
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            h[i, j] += bias[j]


@compiled
def _input(t: Array, x: Array) -> Array:
    """`(B, d + 1)`: coordinates, then the time, which may be one for all."""
    count, dim = x.shape
    joined = np.empty((count, dim + 1), np.float32)
    for i in range(count):
        for j in range(dim):
            joined[i, j] = x[i, j]
        joined[i, dim] = t[i, 0] if t.shape[0] == count else t[0, 0]
    return joined


@compiled
def evaluate(
    weights: Arrays,
    biases: Arrays,
    t: Array,
    x: Array,
    selu: bool,
    out: Array,
    start: int,
    stop: int,
) -> None:
    """Outputs of all networks, of which tiles `start` to `stop` are computed.

    Args:
        weights: of the networks.
        biases: of the networks.
        t: times `(R, B, 1)`, or one for all `(1, 1, 1)`.
        x: points `(R, B, d)`.
        selu: whether the activation is SELU; else it is SiLU.
        out: outputs `(R, B, d)`, written for these tiles.
        start: of the tiles, counted through all networks.
        stop: the tile to stop before.
    """
    count, last = x.shape[1], len(weights) - 1
    tiles = (count + TILE - 1) // TILE
    slope = np.empty((TILE, weights[0].shape[2]), np.float32)
    for tile in range(start, stop):
        r, first = tile // tiles, tile % tiles * TILE
        points = x[r, first : first + TILE]
        times = t[r, first : first + TILE] if t.shape[:2] == x.shape[:2] else t[0]
        h = _input(times, points)
        for layer in range(last + 1):
            h = np.dot(h, weights[layer][r])
            bias = biases[layer][r, 0]
            if layer < last:
                _activate(h, bias, slope, selu)
            else:
                _add(h, bias)
        for i in range(points.shape[0]):
            for j in range(points.shape[1]):
                out[r, first + i, j] = h[i, j]


@compiled
def regress(
    weights: Arrays,
    biases: Arrays,
    t: Array,
    x: Array,
    target: Array,
    selu: bool,
    weight_gradients: Arrays,
    bias_gradients: Arrays,
    losses: Array,
    start: int,
    stop: int,
) -> None:
    """Mean squared errors on a batch, and their gradients, of networks `start` to `stop`.

    Args:
        weights: of all networks.
        biases: of all networks.
        t: times `(R, B, 1)`.
        x: points `(R, B, d)`.
        target: of the outputs `(R, B, d)`.
        selu: whether the activation is SELU; else it is SiLU.
        weight_gradients: as `weights`; written for these networks.
        bias_gradients: as `biases`; written for these networks.
        losses: means over batch and coordinates `(R,)`; written for these networks.
        start: the first network.
        stop: the network to stop before.
    """
    last = len(weights) - 1
    for r in range(start, stop):
        inputs, slopes = [_input(t[r], x[r])], [np.empty((0, 0), np.float32)]
        for layer in range(last + 1):
            h = np.dot(inputs[layer], weights[layer][r])
            bias = biases[layer][r, 0]
            if layer < last:
                slope = np.empty_like(h)
                _activate(h, bias, slope, selu)
                slopes.append(slope)
            else:
                _add(h, bias)
            inputs.append(h)
        gradient = inputs[last + 1]
        losses[r] = _error(gradient, target[r], bias_gradients[last][r, 0])
        for layer in range(last, -1, -1):
            np.dot(inputs[layer].T, gradient, weight_gradients[layer][r])
            if layer:
                gradient = np.dot(gradient, weights[layer][r].T)
                _back(gradient, slopes[layer], bias_gradients[layer - 1][r, 0])


@compiled
def _error(outputs: Array, target: Array, total: Array) -> float:
    """The mean squared error of outputs `(B, ≥ d)`, made its gradient; `total` its sum over B."""
    count, dim = target.shape
    scale, squares = TWO / np.float32(count * dim), 0.0
    total[:] = 0
    for i in range(count):
        for j in range(outputs.shape[1]):
            if j < dim:
                error = outputs[i, j] - target[i, j]
                squares += error * error
                outputs[i, j] = scale * error
                total[j] += outputs[i, j]
            else:
                outputs[i, j] = 0
    return float(squares / (count * dim))


@compiled
def _back(gradient: Array, slope: Array, total: Array) -> None:
    """Multiply a gradient `(B, inputs)` by the activation's slope; `total` its sum over B."""
    total[:] = 0
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            gradient[i, j] *= slope[i, j]
            total[j] += gradient[i, j]
