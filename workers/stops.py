"""Which points of packs are to stop early: told by the driver, asked for by trials.

Tune can end a trial, but cannot say that some of its points have ended.
"""

from __future__ import annotations

from collections.abc import Iterable

import ray


class Stopped:
    """A set of points that trials look into before they go on."""

    def __init__(self) -> None:
        self._points: set[int] = set()

    def add(self, points: Iterable[int]) -> None:
        """Have points stop."""
        self._points.update(points)

    def of(self, points: Iterable[int]) -> list[int]:
        """Those of some points that are to stop."""
        return [point for point in points if point in self._points]


# A restarted actor has forgotten; the driver says again what goes on though it was stopped.
Stops = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Stopped)
