"""The density p_t/p_ref against the reward, and where in the plane it is high."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from luceloop.analysis.drawing.colors import color
from luceloop.analysis.drawing.panels import bare
from luceloop.analysis.statistics.seeds import over_seeds
from luceloop.core.theory.density import Density
from luceloop.core.theory.selection import Array


def draw_density(ax: Axes, theory: Density, centres: Array, measured: Array, last: int) -> Axes:
    """p_T/p_ref against the reward: measured with 95 % intervals, the theory's p_T and its limit.

    Args:
        ax: where.
        theory: what a perfect learner does.
        centres: mean real reward of each bin `(Q,)`.
        measured: density of every seed `(S, Q)`.
        last: T.
    """
    found = over_seeds(measured.T, low=0.0)
    if "ci_low" in found:
        ends = np.abs(np.array([found["mean"] - found["ci_low"], found["ci_high"] - found["mean"]]))
        text = f"measured at t={last}: mean over {len(measured)} seeds, 95 % interval"
        style: dict[str, Any] = {"fmt": "o", "ms": 3.5, "lw": 1, "capsize": 2, "color": color(0)}
        ax.errorbar(centres, found["mean"], ends, label=text, **style)
    else:
        ax.plot(centres, found["mean"], "o", ms=3.5, color=color(0), label=f"measured at t={last}")
    ax.plot(theory.reward, theory.last, "--", lw=1, color="0.4", label=f"theory at t={last}, n=∞")
    ax.plot(theory.reward, theory.limit, lw=1.4, color=color(1), label="theory, limit of p_t")
    ax.set_xlabel("reward r(x)")
    ax.set_ylabel("p_t / p_ref")
    return ax


def draw_density_plane(ax: Axes, samples: np.ndarray, reward: Array, theory: Density) -> Axes:
    """Real samples `(N, 2)` in the plane, coloured by the limit of p_t/p_ref at their reward."""
    shade = np.interp(reward, theory.reward, theory.limit)
    drawn = ax.scatter(samples[:, 0], samples[:, 1], c=shade, s=3, lw=0, rasterized=True)
    ax.set_aspect("equal")
    figure: Any = ax.figure
    figure.colorbar(drawn, ax=ax)
    ax.set_title("limit of p_t / p_ref", fontsize="medium")
    return bare(ax)
