"""Scoring samples: their rewards and classes, by one look of the classifier where there is one.

Axes: B samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from luceloop.core.classifier.classifier import Classifier
from luceloop.core.classifier.inception import Inception
from luceloop.core.config.parts import QualityConfig
from luceloop.core.config.point import PointConfig
from luceloop.core.data.base import RealData
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import Folder
from luceloop.core.measures.quality import MOST_COORDINATES
from luceloop.core.rewards.base import BaseReward


class Scores(NamedTuple):
    """What pickers and metrics see of samples."""

    reward: Tensor
    """`(B,)`."""
    classes: Tensor | None
    """int64 `(B,)`; None where there are no classes."""
    features: Tensor | None
    """What quality compares `(B, F)`: vectors themselves, or what a network sees of images."""
    across: Tensor | None = None
    """Coordinates of vectors in which a class is wide or narrow `(B, W)`."""
    others: Tensor | None = None
    """Rewards of users who like something else than the first one `(B, J-1)`."""


@dataclass(frozen=True)
class Scorer:
    """Scores samples of a dataset."""

    dataset: RealData
    base_reward: BaseReward
    classifier: Classifier | None
    inception: Inception | None
    measures_vectors: bool = False
    """Whether the quality of vectors is measured."""
    other_rewards: tuple[BaseReward, ...] = ()
    """Rewards of users who like something else, J-1 of them."""

    @property
    def n_classes(self) -> int:
        """Classes or modes; 0 where there are none."""
        return self.classifier.n_classes if self.classifier else self.dataset.n_classes

    @property
    def supremum(self) -> float | None:
        """r*, the reward's least upper bound, if known."""
        return self.base_reward.supremum

    @property
    def suprema(self) -> tuple[float | None, ...]:
        """r* of every reward, if known; `supremum` is the first."""
        return (self.supremum, *(reward.supremum for reward in self.other_rewards))

    def of_rows(self, x: Tensor, *, measured: bool = True) -> Scores:
        """Rewards and classes of samples `(R, B, *shape)`, one row after another: `(R B,)`.

        Images are shown to networks row by row, so that a row does not depend on its neighbours.

        Args:
            x: the samples.
            measured: whether features are needed that only quality is measured by.

        Raises:
            LoopError: if the reward breaks its contract.
        """
        if self.dataset.images is None:
            return self(x.flatten(0, 1), measured=measured)
        rows = [self(row, measured=measured) for row in x]
        reward = torch.cat([row.reward for row in rows])
        return Scores(reward, *(_joined(part) for part in list(zip(*rows, strict=True))[1:]))

    def __call__(self, x: Tensor, *, measured: bool = True) -> Scores:
        """Rewards and classes of samples `(B, *shape)`; see `of_rows`.

        Raises:
            LoopError: if the reward breaks its contract.
        """
        own = self.inception(x) if self.inception is not None and measured else None
        if self.classifier is None:
            classes = self.dataset.classify(x) if self.dataset.n_classes else None
            reward = self.base_reward(x)
            others = self._others(x, x)
            if self.measures_vectors:
                return Scores(reward, classes, x.flatten(1), self.dataset.across(x), others)
            return Scores(reward, classes, own, None, others)
        features, logits = self.classifier(x)
        reward = self.base_reward(logits if self.base_reward.reads_logits else x)
        seen = features if own is None else own
        return Scores(reward, logits.argmax(1), seen, None, self._others(x, logits))

    def _others(self, x: Tensor, logits: Tensor) -> Tensor | None:
        """What all but the first reward give `(B, J-1)`; None where there are no others."""
        if not self.other_rewards:
            return None
        found = [each(logits if each.reads_logits else x) for each in self.other_rewards]
        return torch.stack(found, 1)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """All of the rows' parts, if they have any."""
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def build_scorer(config: PointConfig, device: str = "cpu", cache: Folder | None = None) -> Scorer:
    """The dataset, reward and classifier that a configuration names; nothing is trained yet.

    Args:
        config: the configuration.
        device: of the classifier.
        cache: folder of trained classifiers; without one, they are trained anew.

    Raises:
        ConfigError: if the parts do not fit each other.
    """
    dataset = config.data.build()
    classifier = None
    if config.classifier is not None:
        classifier = Classifier(config.classifier, config.data, dataset, device=device, cache=cache)
    inception = _inception(config.quality, dataset, classifier, device)
    names = dataset.class_names if classifier else None
    vectors = config.quality is not None and dataset.images is None
    first, *others = [reward.build(dataset, names) for reward in config.rewards]
    return Scorer(dataset, first, classifier, inception, vectors, tuple(others))


def _inception(
    config: QualityConfig | None, dataset: RealData, classifier: Classifier | None, device: str
) -> Inception | None:
    """The network whose features quality is measured in, where that is not the classifier."""
    if config is None:
        return None
    if dataset.images is None:
        _check_vectors(config, dataset)
        return None
    if config.inception is not None:
        return Inception(config.inception, device)
    if classifier is None:
        allowed = "needs a classifier's features, or quality.inception"
        raise ConfigError("quality", config.model_dump(), allowed)
    return None


def _check_vectors(config: QualityConfig, dataset: RealData) -> None:
    """Refuse to measure vectors by a network, or so long ones that their moments are too large."""
    if config.inception is not None:
        raise ConfigError("quality.inception", config.inception, "needs data of labelled images")
    if math.prod(dataset.shape) > MOST_COORDINATES:
        allowed = f"samples have {dataset.shape}; without labels of images at most "
        allowed += f"{MOST_COORDINATES} coordinates can be compared"
        raise ConfigError("quality", config.model_dump(), allowed)
