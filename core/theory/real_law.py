"""The law of the real data's rewards, worked out once in a process for the same data and reward.

It is exact where the data is a fixed set, a fixed quasi-random sample where it has a known law, and
a large random sample where it is code of the user's own.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field

import torch

from luceloop.core.config.point import PointConfig
from luceloop.core.io.places import Folder
from luceloop.core.pool.scoring import build_scorer
from luceloop.core.theory.law import RewardLaw


def real_law(config: PointConfig, device: str = "cpu", cache: Folder | None = None) -> RewardLaw:
    """The law of a configuration's rewards on its real data, with p_0 = p_ref.

    The last few that were worked out are kept.

    Raises:
        LoopError: if the reward or data of the user's own break their contract.
        ConfigError: if the data or the reward cannot be built.
    """
    return _real_law(_Wanted(law_key(config), config), device, cache)


def law_key(config: PointConfig) -> str:
    """What determines a configuration's law: points with the same key share it."""
    determining = {"data": config.data.law_identity(), "reward": config.reward.model_dump()}
    if config.classifier is not None:
        determining["classifier"] = config.classifier.model_dump()
        determining["resources"] = {"threads": config.resources.threads}
    return json.dumps(determining, sort_keys=True)


@dataclass(frozen=True)
class _Wanted:
    """A law by its key; whichever configuration asks first works it out."""

    key: str
    config: PointConfig = field(compare=False)


@functools.lru_cache(maxsize=4)
def _real_law(wanted: _Wanted, device: str, cache: Folder | None) -> RewardLaw:
    # Rewards alone are wanted, not what the quality of images is measured in.
    config = wanted.config.model_copy(update={"quality": None})
    scorer = build_scorer(config, device, cache)
    rewards, classes = [], []
    for chunk in scorer.dataset.law_samples(config.reward.is_cheap):
        scores = scorer(chunk.to(device))
        rewards.append(scores.reward.double().cpu())
        if scores.classes is not None:
            classes.append(scores.classes.cpu())
    return RewardLaw.of(
        torch.cat(rewards).numpy(),
        torch.cat(classes).numpy() if classes else None,
        scorer.n_classes,
        scorer.supremum,
        finite=scorer.dataset.finite,
    )
