"""Where a loop stands, and what one iteration of it yields.

Axes: R rows, N pool, M kept samples, P preview samples, t retrainings so far, `...` the sample's
own shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luceloop.core.learners.base import State, select_row, stack_rows, to_device


@dataclass(frozen=True)
class LoopState:
    """Where a loop stands after iteration t: all that iteration t+1 depends on."""

    iteration: int
    learner: State
    kept: Tensor | None
    """Kept samples of p_t's pool `(R, M, ...)`; None if none are kept."""
    metrics: Mapping[str, Tensor]
    """Of p_t, by name, float64 `(R,)`: Lemma 2.2 bounds the next ones by them."""
    earlier: Tensor | None = None
    """What was kept of p_0 to p_{t-1} `(R, t, M, ...)`; None where no retraining sees it again."""

    @property
    def all_kept(self) -> Tensor | None:
        """The kept sets that the next retraining may see, oldest first `(R, 1 or t+1, M, ...)`."""
        if self.kept is None:
            return None
        last = self.kept[:, None]
        return last if self.earlier is None else torch.cat([self.earlier, last], 1)

    def plain(self) -> dict[str, Any]:
        """Plain types that `torch.load(weights_only=True)` reads."""
        plain = {
            "iteration": self.iteration,
            "learner": dict(self.learner),
            "kept": self.kept,
            "metrics": dict(self.metrics),
        }
        return plain if self.earlier is None else plain | {"earlier": self.earlier}

    def row(self, row: int) -> LoopState:
        """Where one row stands, its leading axis kept with length 1."""
        kept = None if self.kept is None else self.kept[row : row + 1]
        earlier = None if self.earlier is None else self.earlier[row : row + 1]
        metrics = {name: values[row : row + 1] for name, values in self.metrics.items()}
        return LoopState(self.iteration, select_row(self.learner, row), kept, metrics, earlier)

    @classmethod
    def stack(cls, rows: Sequence[LoopState]) -> LoopState:
        """Where all the rows of `rows`, which stand at one iteration, stand together: on the CPU.

        Some may come from a GPU, others from a file.
        """
        kept = [row.kept.cpu() for row in rows if row.kept is not None]
        earlier = [row.earlier.cpu() for row in rows if row.earlier is not None]
        names = rows[0].metrics
        metrics = {name: torch.cat([row.metrics[name].cpu() for row in rows]) for name in names}
        learner = stack_rows([to_device(row.learner, "cpu") for row in rows])
        return cls(
            rows[0].iteration,
            learner,
            torch.cat(kept) if kept else None,
            metrics,
            torch.cat(earlier) if earlier else None,
        )

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> LoopState:
        """The inverse of `plain`."""
        return cls(
            plain["iteration"],
            plain["learner"],
            plain["kept"],
            plain["metrics"],
            plain.get("earlier"),
        )


@dataclass(frozen=True)
class IterationResult:
    """One retraining iteration."""

    iteration: int
    metrics: dict[str, Tensor]
    """By name, float64 `(R,)`."""
    preview: Tensor
    """Some samples of p_t's pool `(R, P, ...)`."""
    reward: Tensor | None
    """At t=0: base rewards of p_0's pool `(R, N)`, or of J rewards `(R, N, J)`, NaN beyond a row's
    pool."""
    state: LoopState
