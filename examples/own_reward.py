"""A reward of your own: pickers who like samples far to the right, within reason.

    luceloop run own_reward.yaml

A reward is a function of samples (N, ...) to one number a sample. Its attribute `supremum`, if you
know the least upper bound, gives you the curves of E[exp(β(r - r*))] and the theorems' bounds.
"""

import torch


def rightness(x):
    return torch.tanh(x[:, 0] / 5)


rightness.supremum = 1.0


class Rightness:
    """The same with a setting: a class is made with the keyword arguments in `reward.args`."""

    supremum = 1.0

    def __init__(self, scale=5.0):
        self.scale = scale

    def __call__(self, x):
        return torch.tanh(x[:, 0] / self.scale)
