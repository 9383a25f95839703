"""A curation of your own: keep the best of the whole pool, which is no choice among K candidates.

    luceloop run own_curation.yaml

A curation is a function of a seed's pool (N, ...), its rewards (N,), how many are to be kept and a
generator to the positions that are kept. The theory is about Luce's choice: there is no forecast.
"""

import torch


def top(samples, reward, count, generator):
    """The `count` samples of the highest rewards; among equal ones, chance decides."""
    order = torch.randperm(len(reward), generator=generator)
    best = torch.argsort(reward[order], descending=True, stable=True)
    return order[best[:count]]


class Threshold:
    """Draws from all samples whose reward is among the best `share` of the pool."""

    def __init__(self, share=0.5):
        self.share = share

    def __call__(self, samples, reward, count, generator):
        good = top(samples, reward, max(1, int(self.share * len(reward))), generator)
        return good[torch.randint(len(good), (count,), generator=generator)]
