"""How fast a GPU does each part of the CIFAR-10 experiment, and where its time goes."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.common import Bench, coloured_digits, training_set
from luceloop.core import rng
from luceloop.core.classifier.chunks import seen_in_chunks
from luceloop.core.classifier.vgg11 import VGG11
from luceloop.core.learners.otcfm import OTCFM
from luceloop.core.measures.quality import Neighbourhoods, frechet_distance, precision_recall

POOL, STEPS, ITERATIONS = 50_000, 390, 20


def run(bench: Bench) -> None:
    """Time evaluations, training, scores and quality, and project the experiment."""
    evaluation = _evaluations(bench)
    step = _training(bench)
    scored = _scoring(bench)
    measured = _quality(bench)
    if bench.device == "cuda":
        bench.say(f"largest GPU memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    for nfe in (40, 20, 12):
        pool = POOL * (nfe * evaluation + scored) + measured
        minutes = ((ITERATIONS + 1) * pool + ITERATIONS * STEPS * step) / 60
        bench.say(f"projected: {ITERATIONS} iterations at {nfe} evaluations take {minutes:.1f} min")


def _evaluations(bench: Bench) -> float:
    """Seconds of an evaluation of one image, as the preset samples."""
    shard = 4 if bench.tiny else 2500
    variants: dict[str, dict[str, Any]] = {"bf16": {"precision": "bf16", "compile": False}}
    variants["fp32"] = {"precision": "fp32", "compile": False}
    if bench.device == "cuda" and not bench.tiny:
        variants = {"bf16, compiled": {"precision": "bf16", "compile": True}} | variants
    found = {}
    for name, changes in variants.items():
        learner = bench.learner(**changes)
        weights, count = bench.weights(learner), shard // 4 if name == "fp32" else shard
        x = torch.randn(1, count, 3072, generator=rng.stream(0, "x")).to(bench.device)
        t = torch.tensor(0.5, device=bench.device)
        with torch.no_grad():
            call = functools.partial(learner.network, weights, t, x)
            found[name] = bench.seconds(call) / count
        bench.say(f"an evaluation in {name}, {count} images: {1e6 * found[name]:.1f} µs an image")
        if bench.device == "cuda" and len(found) == 1:
            _profile(bench, learner, weights, t, x)
    return next(iter(found.values()))


def _profile(
    bench: Bench, learner: OTCFM, weights: dict[str, Tensor], t: Tensor, x: Tensor
) -> None:
    """The kernels that take most of an evaluation."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as recorded, torch.no_grad():
        learner.network(weights, t, x)
        torch.cuda.synchronize()
    events = sorted(recorded.key_averages(), key=lambda each: -each.self_device_time_total)
    for event in events[:10]:
        took = event.self_device_time_total / 1000
        bench.say(f"   {took:8.2f} ms in {event.count:4d} x {event.key[:80]}")


def _training(bench: Bench) -> float:
    """Seconds of a training step."""
    learner = bench.learner(steps=3 if bench.tiny else STEPS)
    weights, data = bench.weights(learner), training_set(1, 60 if bench.tiny else 2500)
    state, steps = {"weights": weights, "ema": weights}, learner.config.steps
    seconds = bench.seconds(lambda: learner.fit(state, data, [0], 1), times=2) / steps
    bench.say(f"a training step of {learner.config.batch_size} images: {1000 * seconds:.1f} ms")
    ready = bench.seconds(lambda: list(learner.batches(data, steps, [0], 1)), times=1) / steps
    bench.say(f"   its batch is ready, on a thread beside it, in {1000 * ready:.1f} ms")
    return seconds


def _scoring(bench: Bench) -> float:
    """Seconds of an image's score."""
    images, _ = coloured_digits(16 if bench.tiny else 10_000)
    images, module = images.to(bench.device), VGG11(10).to(bench.device).eval()
    size = 8 if bench.tiny else 128
    seconds = bench.seconds(lambda: seen_in_chunks(module, images, size)) / len(images)
    bench.say(f"scoring: {1 / seconds:.0f} images a second")
    return seconds


def _quality(bench: Bench) -> float:
    """Seconds of the quality of a pool, on the device and, for comparison, on the CPU."""
    count, width = (60, 16) if bench.tiny else (5000, 512)
    features = torch.rand(count, width, generator=rng.stream(0, "features"))
    whole = 0.0
    for device in dict.fromkeys(("cpu", bench.device)):
        there = features.to(device)
        balls = Neighbourhoods.of(there, 3)
        covariance = torch.cov(there.double().T)
        mean = there.double().mean(0)
        near = bench.seconds(functools.partial(precision_recall, balls, there), times=1)
        moments = mean[None], covariance[None], mean, covariance
        far = bench.seconds(functools.partial(frechet_distance, *moments), times=1)
        bench.say(f"quality on {device}: precision and recall {near:.2f} s, Fréchet {far:.2f} s")
        whole = near + far
    return whole
