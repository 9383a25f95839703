"""The law of the real data's rewards, worked out once in a process for the same data and reward.

It is exact where the data is a fixed set, a fixed quasi-random sample where it has a known law, and
a large random sample where it is code of the user's own.

Where only a classifier or the user's code can tell rewards, a sweep records those that it scored:
see `real_rewards`. Then its theory needs neither again.

Axes: N real samples.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError
from luceloop.core.fields import named_code
from luceloop.core.io.places import Folder
from luceloop.core.pool.scoring import build_scorer
from luceloop.core.theory.law import RewardLaw


@dataclass(frozen=True)
class RealRewards:
    """The rewards of real samples that stand for the law, as they were scored."""

    reward: NDArray[np.floating]
    """Of each sample `(N,)`, or several rewards `(N, J)` where users like different things."""
    classes: NDArray[np.int64] | None
    """Of each sample `(N,)`; None where there are none."""
    n_classes: int
    supremum: float | None
    """r*, if known."""
    finite: bool = False
    """Whether the real data is these very samples."""
    size: int | None = None
    """Real samples that each seed draws, where only the user's code tells."""
    other_suprema: tuple[float | None, ...] = ()
    """r* of all rewards but the first."""

    @functools.cached_property
    def law(self) -> RewardLaw:
        """Their law, with p_0 = p_ref."""
        reward = self.reward.astype(np.float64)
        law = RewardLaw.of(reward, self.classes, self.n_classes, self.supremum, finite=self.finite)
        return replace(law, size=self.size, other_suprema=self.other_suprema)

    def arrays(self) -> dict[str, np.ndarray]:
        """The same as named arrays, for a file."""
        found = {"reward": self.reward, "n_classes": np.array(self.n_classes)}
        found |= {"finite": np.array(self.finite)}
        if self.size is not None:
            found["size"] = np.array(self.size)
        if self.classes is not None:
            smallest = np.min_scalar_type(max(self.n_classes, 1))
            found["classes"] = self.classes.astype(smallest)
        if self.supremum is not None:
            found["supremum"] = np.array(self.supremum)
        if self.other_suprema:
            known = [math.nan if r is None else r for r in self.other_suprema]
            found["other_suprema"] = np.array(known)
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> RealRewards:
        """The inverse of `arrays`."""
        classes = arrays["classes"].astype(np.int64) if "classes" in arrays else None
        supremum = float(arrays["supremum"]) if "supremum" in arrays else None
        size = int(arrays["size"]) if "size" in arrays else None
        known = arrays["other_suprema"].tolist() if "other_suprema" in arrays else []
        others = tuple(None if math.isnan(r) else r for r in known)
        rest = int(arrays["n_classes"]), supremum, bool(arrays["finite"]), size, others
        return cls(arrays["reward"], classes, *rest)


def real_law(config: PointConfig, device: str = "cpu", cache: Folder | None = None) -> RewardLaw:
    """The law of a configuration's rewards on its real data, with p_0 = p_ref.

    The last few that were worked out are kept.

    Raises:
        LoopError: if the reward or data of the user's own break their contract.
        ConfigError: if the data or the reward cannot be built, or is NaN or infinite.
    """
    return real_rewards(config, device, cache).law


def real_rewards(
    config: PointConfig, device: str = "cpu", cache: Folder | None = None
) -> RealRewards:
    """The rewards of a configuration on the real samples that stand for its law; see `real_law`."""
    return _real_rewards(_Wanted(law_key(config), config), device, cache)


def is_recorded(config: PointConfig) -> bool:
    """Whether a sweep records its real rewards: a classifier or the user's code tells them."""
    code = any(named_code(part) for part in (config.data, *config.rewards))
    return config.classifier is not None or code


def law_key(config: PointConfig) -> str:
    """What determines a configuration's law: points with the same key share it."""
    first, *others = [reward.model_dump() for reward in config.rewards]
    determining: dict[str, Any] = {"data": config.data.law_identity(), "reward": first}
    if others:
        determining["others"] = others
    if config.classifier is not None:
        determining["classifier"] = config.classifier.model_dump()
    return json.dumps(determining, sort_keys=True)


@dataclass(frozen=True)
class _Wanted:
    """A law by its key; whichever configuration asks first works it out."""

    key: str
    config: PointConfig = field(compare=False)


@functools.lru_cache(maxsize=4)
def _real_rewards(wanted: _Wanted, device: str, cache: Folder | None) -> RealRewards:
    # Rewards alone are wanted, not what the quality of images is measured in.
    config = wanted.config.model_copy(update={"quality": None})
    scorer = build_scorer(config, device, cache)
    rewards, classes = [], []
    # A law of several rewards is not reduced, so it has fewer samples.
    cheap = config.rewards[0].is_cheap and len(config.rewards) == 1
    for chunk in scorer.dataset.law_samples(cheap):
        if not chunk.isfinite().all():
            allowed = "has samples that are NaN or infinite, of which there is no law"
            raise ConfigError("data.name", config.data.name, allowed)
        scores = scorer(chunk.to(device))
        found = scores.reward
        if scores.others is not None:
            found = torch.cat([found[:, None], scores.others], 1)
        if not found.isfinite().all():
            allowed = "is NaN or infinite on some of the real samples"
            raise ConfigError("reward.name", config.rewards[0].name, allowed)
        exact = found.dtype == torch.float64
        rewards.append(found.cpu() if exact else found.float().cpu())
        if scores.classes is not None:
            classes.append(scores.classes.cpu())
    return RealRewards(
        torch.cat(rewards).numpy(),
        torch.cat(classes).numpy() if classes else None,
        scorer.n_classes,
        scorer.supremum,
        finite=scorer.dataset.finite,
        size=scorer.dataset.size if named_code(config.data) else None,
        other_suprema=scorer.suprema[1:],
    )
