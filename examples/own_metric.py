"""A metric of your own: how far apart samples are, and how much of the circle they cover.

    luceloop run own_metric.yaml

A metric is a function of samples (N, ...) and real samples (M, ...), on one device, to a number, or
to several by name. It is measured for every seed and iteration, and drawn with the others.
"""

import math

import torch


def spread(samples, real):
    return samples.std() / real.std()


class Coverage:
    """The share of sectors about the origin that hold a sample, and the fullest sector's share."""

    def __init__(self, sectors=8):
        self.sectors = sectors

    def __call__(self, samples, real):
        turn = torch.atan2(samples[:, 1], samples[:, 0]) / (2 * math.pi) % 1
        counts = torch.bincount((turn * self.sectors).long(), minlength=self.sectors)
        return {"covered": (counts > 0).double().mean(), "fullest": counts.max() / len(samples)}
