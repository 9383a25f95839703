"""Rewards of a classifier's probabilities q: what the kinds that use one have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from luceloop.core.errors import ConfigError


@dataclass(frozen=True)
class ClassifierReward:
    """Σ q_i over some classes, or max_i q_i, of a classifier's probabilities q (section 4)."""

    labels: tuple[int, ...] | None
    """The classes; None for the largest probability."""
    reads_logits: bool = True

    @property
    def supremum(self) -> float:
        """1, which a sure classifier reaches."""
        return 1.0

    def __call__(self, logits: Tensor) -> Tensor:
        """Rewards `(B,)` of logits `(B, C)`."""
        probability = logits.float().softmax(1)
        if self.labels is None:
            return probability.amax(1)
        return probability[:, list(self.labels)].sum(1).clamp_max(1)


def check_labels(
    reward: str, key: str, labels: tuple[int, ...], class_names: Sequence[str] | None
) -> tuple[int, ...]:
    """The rewarded classes, if the classifier has them.

    Raises:
        ConfigError: if there is no classifier, no such class, or a class stands twice.
    """
    if class_names is None:
        raise ConfigError("reward.name", reward, "needs a classifier; set classifier.name")
    missing = [label for label in labels if label >= len(class_names)]
    if missing:
        listed = ", ".join(f"{i} ({name})" for i, name in enumerate(class_names))
        raise ConfigError(f"reward.{key}", missing[0], f"must be one of {listed}")
    if len(set(labels)) < len(labels):
        raise ConfigError(f"reward.{key}", list(labels), "must not repeat a class")
    return labels
