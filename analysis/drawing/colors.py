"""The colours of points: the same in figures, in the report and in MLflow."""

from __future__ import annotations

COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6D31",
)
"""Okabe and Ito's colours, safe for colour-blind readers, strongest contrast first."""


def color(index: int) -> str:
    """The colour of point `index`; colours repeat after eight points."""
    return COLORS[index % len(COLORS)]
