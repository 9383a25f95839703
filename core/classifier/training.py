"""Training a classifier on labelled images, and judging it by images it has not seen."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from luceloop.core.classifier.base import ClassifierConfig
from luceloop.core.data.labelled import LabelledImages

CHUNK = 1024
"""Images classified at a time."""


def fit(module: nn.Module, images: LabelledImages, config: ClassifierConfig, device: str) -> None:
    """Train by SGD with momentum on a one-cycle schedule, on shifted and maybe mirrored images."""
    steps = config.epochs * (len(images) // min(config.batch_size, len(images)))
    optimizer = torch.optim.SGD(
        module.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps)
    cuda = device.startswith("cuda")
    module.train()
    for x, labels in _batches(images, config, device):
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            loss = functional.cross_entropy(module(x).logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def accuracy(module: nn.Module, images: LabelledImages, device: str) -> float:
    """The share of images whose class the network gets right."""
    right = 0
    with torch.no_grad():
        for index in torch.split(torch.arange(len(images)), CHUNK):
            found = module(images.scaled(index).to(device)).logits.argmax(1).cpu()
            right += int((found == images.labels[index]).sum())
    return right / len(images)


def _batches(
    images: LabelledImages, config: ClassifierConfig, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches of all epochs, by the global stream."""
    pixels, labels = images.pixels.to(device), images.labels.to(device)
    held = LabelledImages(pixels, labels, images.highest)
    size = min(config.batch_size, len(images))
    for _ in range(config.epochs):
        order = torch.randperm(len(images))
        for batch in torch.split(order[: len(order) - len(order) % size], size):
            index = batch.to(device)
            yield augmented(held.scaled(index), config), labels[index]


def augmented(x: Tensor, config: ClassifierConfig) -> Tensor:
    """Every image shifted by up to `shift` pixels, and mirrored with probability ½ if asked."""
    size, shift = x.shape[-1], config.shift
    if shift:
        padded = functional.pad(x, [shift] * 4, value=-1.0)
        offsets = torch.randint(2 * shift + 1, (2, len(x), 1)).to(x.device)
        steps = torch.arange(size, device=x.device)
        rows, columns = offsets[0] + steps, offsets[1] + steps
        which = torch.arange(len(x), device=x.device)[:, None, None]
        x = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
        x = x.permute(0, 3, 1, 2)
    if config.flip:
        mirror = (torch.rand(len(x)) < 0.5).to(x.device)[:, None, None, None]
        x = torch.where(mirror, x.flip(-1), x)
    return x.contiguous()
