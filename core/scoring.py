"""Scoring samples: their rewards and classes, by one look of the classifier where there is one.

Axes: B samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from luceloop.core.classifier import Classifier
from luceloop.core.config import Config
from luceloop.core.data import Dataset, build_dataset
from luceloop.core.errors import ConfigError
from luceloop.core.images import ImageData
from luceloop.core.inception import Inception
from luceloop.core.rewards import ClassifierReward, Reward, build_reward
from luceloop.core.storage import Folder


class Scores(NamedTuple):
    """What pickers and metrics see of samples."""

    reward: Tensor
    """`(B,)`."""
    classes: Tensor | None
    """int64 `(B,)`; None where there are no classes."""
    features: Tensor | None
    """`(B, F)`, of the network that quality is measured by; None where there is none."""


@dataclass(frozen=True)
class Scorer:
    """Scores samples of a dataset."""

    dataset: Dataset
    base_reward: Reward | ClassifierReward
    classifier: Classifier | None
    inception: Inception | None

    @property
    def n_classes(self) -> int:
        """Classes or modes; 0 where there are none."""
        return self.classifier.n_classes if self.classifier else self.dataset.n_classes

    @property
    def supremum(self) -> float | None:
        """r*, the reward's least upper bound, if known."""
        return self.base_reward.supremum

    def __call__(self, x: Tensor) -> Scores:
        """Rewards and classes of samples `(B, *shape)`.

        Raises:
            LoopError: if the reward breaks its contract.
        """
        own = None if self.inception is None else self.inception(x)
        if self.classifier is None:
            assert not isinstance(self.base_reward, ClassifierReward)
            classes = self.dataset.classify(x) if self.dataset.n_classes else None
            return Scores(self.base_reward(x), classes, own)
        features, logits = self.classifier(x)
        by_classifier = isinstance(self.base_reward, ClassifierReward)
        reward = self.base_reward(logits if by_classifier else x)
        return Scores(reward, logits.argmax(1), features if own is None else own)


def build_scorer(config: Config, device: str = "cpu", cache: Folder | None = None) -> Scorer:
    """The dataset, reward and classifier that a configuration names; nothing is trained yet.

    Args:
        config: the configuration.
        device: of the classifier.
        cache: folder of trained classifiers; without one, they are trained anew.

    Raises:
        ConfigError: if the parts do not fit each other.
    """
    dataset = build_dataset(config.data)
    classifier = None
    if config.classifier is not None:
        if not isinstance(dataset, ImageData):
            name = config.classifier.name
            raise ConfigError("classifier.name", name, "needs data of labelled images")
        classifier = Classifier(config, dataset, device, cache)
    inception = None
    if config.quality is not None:
        if not isinstance(dataset, ImageData):
            raise ConfigError("quality", config.quality.model_dump(), "needs data of images")
        if config.quality.inception is not None:
            inception = Inception(config.quality.inception, device)
        elif classifier is None:
            allowed = "needs a classifier's features, or quality.inception"
            raise ConfigError("quality", config.quality.model_dump(), allowed)
    names = dataset.names if isinstance(dataset, ImageData) and classifier else None
    return Scorer(dataset, build_reward(config.reward, dataset, names), classifier, inception)
