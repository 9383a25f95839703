"""A learner of your own: one normal law, fitted by its mean and its covariance.

    luceloop run own_learner.yaml

A learner fits R training sets at once, one for each seed, and samples from what it fitted. All it
knows is in its state: tensors whose first axis is R. It draws from named streams, so that a row's
numbers do not depend on its neighbours, on workers or on interruptions.
"""

import torch

from luceloop import Fitted
from luceloop.core import rng


class Gaussian:
    def __init__(self, shape, device):
        """`shape` is that of a sample; what stands under `learner.args` would come, too."""
        self.shape, self.device = shape, device

    def fit(self, state, training, seeds, iteration):
        rows = zip(training.samples.to(self.device), training.sizes.tolist(), strict=True)
        data = [samples[:size].flatten(1) for samples, size in rows]
        mean = torch.stack([x.mean(0) for x in data])
        ridge = 1e-6 * torch.eye(mean.shape[1], device=self.device)
        factor = torch.stack([torch.linalg.cholesky(x.T.cov(correction=0) + ridge) for x in data])
        return Fitted({"mean": mean, "factor": factor}, loss=None)

    def model(self, state):
        return dict(state)  # sampling needs all of it

    def sample(self, model, count, seeds, iteration, shard):
        streams = rng.streams(seeds, "generate", iteration, shard, self.device)
        noise = rng.normal(streams, (count, model["mean"].shape[1]))
        rows = zip(noise, model["factor"], model["mean"], strict=True)
        x = torch.stack([part @ factor.T + mean for part, factor, mean in rows])
        return x.reshape(len(seeds), count, *self.shape)
