"""Minibatches walk through every training set, epoch by epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from luceloop.core.learners.base import TrainingSet
from luceloop.core.learners.regression.minibatches import Minibatches

SIZES = [12, 7, 1, 20]
SEEDS = [0, 1, 2, 3]


def _training(sizes: list[int]) -> TrainingSet:
    """Sample i of row r is 100 r + i; the padding is -1."""
    samples = torch.full((len(sizes), max(sizes), 1), -1.0)
    for row, size in enumerate(sizes):
        samples[row, :size, 0] = 100 * row + torch.arange(size)
    return TrainingSet(samples, torch.tensor(sizes))


@pytest.mark.parametrize("batch_size", [1, 5, 12, 50])
@pytest.mark.parametrize("chunk", [1, 3])
def test_every_epoch_has_every_sample_once(batch_size, chunk):
    minibatches = Minibatches(_training(SIZES), batch_size, SEEDS, 0)
    takes = -(-60 // (batch_size * chunk))
    batches = torch.cat([minibatches.take(chunk) for _ in range(takes)])
    assert batches.shape == (takes * chunk, len(SIZES), batch_size, 1)
    for row, size in enumerate(SIZES):
        seen = batches[:, row].flatten()
        epochs = seen[: len(seen) - len(seen) % size].reshape(-1, size)
        everything = 100.0 * row + torch.arange(size)
        assert torch.equal(epochs.sort(1).values, everything.expand_as(epochs))
        rest = seen[epochs.numel() :]
        assert len(rest.unique()) == len(rest)


def test_batches_do_not_depend_on_how_many_are_taken_at_once():
    single = Minibatches(_training(SIZES), 5, SEEDS, 0)
    several = Minibatches(_training(SIZES), 5, SEEDS, 0)
    one_by_one = torch.cat([single.take(1) for _ in range(9)])
    assert torch.equal(torch.cat([several.take(4), several.take(5)]), one_by_one)


def test_a_row_walks_the_same_whatever_its_neighbours():
    together = Minibatches(_training(SIZES), 5, SEEDS, 0).take(8)
    training = _training(SIZES)
    row = TrainingSet(training.samples[1:2, : SIZES[1]], training.sizes[1:2])
    assert torch.equal(Minibatches(row, 5, SEEDS[1:2], 0).take(8)[:, 0], together[:, 1])


def test_orders_are_uniform_and_differ_between_epochs_seeds_and_iterations():
    seeds = list(range(3000))
    training = TrainingSet(
        torch.arange(4.0).expand(len(seeds), 4)[..., None], torch.full((3000,), 4)
    )
    epochs = Minibatches(training, 4, seeds, 0).take(2)[..., 0].long().numpy()
    names = epochs @ np.array([64, 16, 4, 1])  # a number for each order
    for epoch in names:
        counts = np.unique(epoch, return_counts=True)[1]
        assert len(counts) == 24
        assert stats.chisquare(counts).pvalue > 1e-6
    repeated = (names[0] == names[1]).mean()
    # Independent orders agree with probability 1/24; five standard errors.
    assert abs(repeated - 1 / 24) < 5 * (1 / 24 / len(seeds)) ** 0.5
    other = Minibatches(training, 4, seeds, 1).take(1)[0, ..., 0].long().numpy()
    assert abs((other == epochs[0]).all(1).mean() - 1 / 24) < 5 * (1 / 24 / len(seeds)) ** 0.5
