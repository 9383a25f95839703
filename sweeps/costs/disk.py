"""What a sweep writes: bytes on disk, estimated from its configuration.

What is compressed (samples, rewards) and what SQLite takes for a value were measured; see
docs/costs.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from luceloop.core.config.point import PointConfig
from luceloop.core.learners.regression.regression import Regression
from luceloop.core.loop.loop import Loop
from luceloop.sweeps.costs.pace import Places
from luceloop.sweeps.costs.sizes import sizes_of

NUMBER = 4
"""Bytes of a float32."""
COMPRESSED = 0.93
"""Size of samples and rewards on disk over that in memory."""
VALUE = 270.0
"""Bytes of MLflow's SQLite for a value of a curve."""
STATISTICS = 8
"""Values of a point's curves for each metric, over its seeds."""
LEDGER_VALUE = 21
"""Bytes of the ledger for a value."""
PICTURE = 6_000
"""Bytes of a picture of an iteration's samples, in MLflow."""
FIGURES = 7_500_000
"""Bytes of figures and the report, with their copy in MLflow, and of its empty database."""
CHECKPOINTS = 2
"""Of a running trial that are there at a time."""


@dataclass(frozen=True)
class Disk:
    """Bytes that a sweep leaves, and those that it takes while it runs."""

    previews: int = 0
    """Samples kept for figures, and rewards of p_0, once in the folder and once in MLflow."""
    states: int = 0
    """Last states, with `keep: last`."""
    checkpoints: int = 0
    """Of running trials, gone when they have ended."""
    initial: int = 0
    """Trained p_0 that are not in the cache."""
    record: int = 0
    """The ledger, MLflow's curves, pictures and figures."""

    @property
    def total(self) -> int:
        """All of it, at the most."""
        return sum(getattr(self, each.name) for each in fields(self))

    def plain(self) -> dict[str, int]:
        """Plain types for JSON."""
        return asdict(self) | {"total": self.total}


def weights_size(loop: Loop) -> tuple[int, int]:
    """Bytes of a seed's weights with what goes on with them, and of those of p_0 in the cache.

    Nothing is known of a learner of the user's own, which counts as none.
    """
    learner = loop.learner
    if not isinstance(learner, Regression):
        return 0, 0
    count = learner.network.parameters_count
    averaged, moments = learner.config.ema is not None, learner.config.carry_optimizer
    own = 1 + averaged + 2 * moments
    cached = 1 + averaged + 2
    return own * count * NUMBER, cached * count * NUMBER


def estimate_disk(
    points: Iterable[PointConfig], loop: Loop, places: Places, metrics: int, missing: int
) -> Disk:
    """What a sweep of these points writes.

    Args:
        points: whole, as reused rows are written, too.
        loop: of one of them.
        places: how trials share the cluster.
        metrics: of a row.
        missing: trained p_0 that are not in the cache.
    """
    own, cached = weights_size(loop)
    sample = NUMBER * math.prod(loop.dataset.shape)
    previews = states = values = pictures = largest = 0
    for point in points:
        sizes, seeds, rows = sizes_of(point), len(point.seeds), point.iterations + 1
        shown = rows * min(point.sampling.preview, sizes.pool) * sample + sizes.pool * NUMBER
        previews += round(2 * COMPRESSED * seeds * shown)
        sets = 1 if point.training.synthetic == "replace" else max(1, point.iterations)
        state = seeds * (own + sets * sizes.kept * sample)
        largest = max(largest, state)
        states += state if point.keep == "last" and point.iterations else 0
        values += rows * metrics * seeds
        pictures += rows
    averages = STATISTICS * values / max(1, len(loop.rows.seeds))
    record = VALUE * (values + averages) + LEDGER_VALUE * values + PICTURE * pictures + FIGURES
    checkpoints = places.trials * places.pack * CHECKPOINTS * largest
    return Disk(previews, states, checkpoints, missing * cached, round(record))
