"""The real samples that pools are compared with: described once, as pools are shard by shard."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from luceloop.core.config.parts import QualityConfig
from luceloop.core.measures.quality import RealFeatures
from luceloop.core.measures.width import ClassMoments
from luceloop.core.pool.scoring import Scorer


def real_features(wanted: QualityConfig, scorer: Scorer, device: str) -> RealFeatures:
    """Describe the samples that stand for the real data's law.

    Args:
        wanted: what is measured.
        scorer: of the same dataset.
        device: of the networks that see images.
    """
    chunks = scorer.dataset.law_samples(cheap=True)
    if scorer.dataset.images is None:
        return _of_vectors(wanted, scorer, chunks)
    features = [_seen(scorer, chunk.to(device)) for chunk in chunks]
    return RealFeatures.of(torch.cat(features), wanted.samples, wanted.neighbours)


def _seen(scorer: Scorer, images: Tensor) -> Tensor:
    found = scorer(images).features
    assert found is not None
    return found.float()


def _of_vectors(wanted: QualityConfig, scorer: Scorer, chunks: Iterator[Tensor]) -> RealFeatures:
    """The samples themselves; no reward is asked for, which may cost much."""
    data = scorer.dataset
    x = torch.cat(list(chunks))
    classes = data.classify(x) if data.n_classes else torch.zeros(len(x), dtype=torch.int64)
    everything = torch.ones(1, len(x), dtype=torch.bool)
    spread = ClassMoments.of(
        data.across(x)[None], classes[None], everything, max(1, data.n_classes)
    )
    return RealFeatures.of(x.flatten(1), wanted.samples, wanted.neighbours, spread)
