"""The start of a sweep: how far p_0, which all its points begin with, is from the real data.

A loop amplifies what it begins with. Where p_0 blurs the data or misses a part of it, curves show
the learner rather than curation; so its distances stand beside every sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WIDEST, NARROWEST = 1.25, 0.8
"""Between these width ratios a start is fair."""
LEAST = 0.5
"""Below this precision or recall it is not."""
SHOWN = ("width_ratio", "frechet_distance", "sliced_wasserstein", "precision", "recall")


@dataclass(frozen=True)
class Start:
    """The distances of a p_0 to the real data, as means over seeds."""

    distances: Mapping[str, float]
    """By metric, in the order of `SHOWN`."""

    @classmethod
    def of(cls, metrics: Mapping[str, Sequence[float]]) -> Start:
        """The start with these metrics at t=0, a value per seed."""
        found = {name: float(np.mean(metrics[name])) for name in SHOWN if name in metrics}
        return cls(found)

    @property
    def complaints(self) -> list[str]:
        """Why the start is no fair one, each a clause; empty if it is fair, or was not measured."""
        found = []
        width = self.distances.get("width_ratio", 1.0)
        if width > WIDEST:
            found.append(f"its classes are {width:.2f} times as wide as the data's")
        if width < NARROWEST:
            found.append(f"its classes are only {width:.2f} times as wide as the data's")
        if self.distances.get("precision", 1.0) < LEAST:
            found.append("less than half of its samples lie among real ones")
        if self.distances.get("recall", 1.0) < LEAST:
            found.append("it misses more than half of the real samples")
        return found


def describe_starts(metrics: Iterable[Mapping[str, Sequence[float]]]) -> list[str]:
    """A line for each different p_0 of a sweep, and one more where it is no fair start.

    Args:
        metrics: of the points at t=0, a value per seed.
    """
    lines: dict[str, None] = {}  # most sweeps have one p_0
    for start in map(Start.of, metrics):
        if not start.distances:
            continue
        listed = ", ".join(f"{name} {value:.3g}" for name, value in start.distances.items())
        lines[f"p_0: {listed} (mean over seeds)"] = None
        if start.complaints:
            reasons = ", and ".join(start.complaints)
            lines[f"p_0 is no fair start: {reasons}; train it longer (learner.initial_steps)"] = (
                None
            )
    return list(lines)
