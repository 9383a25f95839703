"""A dataset of your own: points on a ring, in as many classes as you cut it into.

    luceloop run own_data.yaml

A dataset tells its size, its shape and its classes, draws samples by the generator it is given, and
says which class a sample belongs to.
"""

import math

import torch


class Ring:
    shape = (2,)

    def __init__(self, size, radius=2.0, noise=0.1, pieces=4):
        """`size` is `data.size`; the rest stands under `data.args`."""
        self.size, self.n_classes = size, pieces
        self.radius, self.noise = radius, noise

    def draw(self, size, generator):
        angle = 2 * math.pi * torch.rand(size, generator=generator)
        circle = torch.stack([angle.cos(), angle.sin()], dim=1)
        return self.radius * circle + self.noise * torch.randn(size, 2, generator=generator)

    def classify(self, x):
        turn = torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi) % 1
        return (turn * self.n_classes).long().clamp_max(self.n_classes - 1)
