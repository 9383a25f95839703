"""Whether a GPU computes what the CPU does, and the same bits whenever it is asked again."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.common import Bench, coloured_digits, digest, relative, training_set
from luceloop.core import rng
from luceloop.core.classifier.chunks import seen_in_chunks
from luceloop.core.classifier.vgg11 import VGG11
from luceloop.core.learners.base import TrainingSet, select_row, to_device
from luceloop.core.learners.otcfm import OTCFM
from luceloop.core.pool.curation import choose_among_k

CHILD = "from benchmarks.gpu.correct import print_digest; print_digest({tiny})"


def run(bench: Bench) -> None:
    """All checks."""
    _network(bench)
    _losses(bench)
    _bits(bench)
    _scores(bench)
    _winners(bench)


def _network(bench: Bench) -> None:
    """The U-Net against its fp32 self on the CPU."""
    cpu = bench.learner("cpu", precision="fp32", compile=False)
    weights, count = bench.weights(cpu), 2 if bench.tiny else 64
    x = torch.randn(1, count, 3072, generator=rng.stream(0, "x"))
    t = torch.rand(1, count, 1, generator=rng.stream(0, "t"))
    with torch.no_grad():
        exact = cpu.network(weights, t, x)
    kinds: dict[str, tuple[float, dict[str, Any]]]
    kinds = {"fp32": (3e-5, {"precision": "fp32", "compile": False})}
    kinds["bf16"] = (2e-2, {"precision": "bf16", "compile": False})
    if bench.device == "cuda" and not bench.tiny:
        kinds["bf16, compiled"] = (2e-2, {"precision": "bf16", "compile": True})
    for name, (bound, changes) in kinds.items():
        learner = bench.learner(**changes)
        there = to_device(weights, bench.device)
        with torch.no_grad():
            found = learner.network(there, t.to(bench.device), x.to(bench.device))
        error = relative(found, exact)
        bench.check(f"U-Net in {name} against fp32 on the CPU", error < bound, f"{error:.1e}")


def _losses(bench: Bench) -> None:
    """Three training steps on the same draws, which are made on the CPU."""
    size, losses = 4 if bench.tiny else 16, []
    changes: dict[str, Any] = {"precision": "fp32", "compile": False, "initial_steps": 3}
    changes |= {"batch_size": size, "ot_batch": size}
    for device in ("cpu", bench.device):
        learner = bench.learner(device, **changes)
        unet = learner.config.unet.model_copy(update={"dropout": 0.0})
        learner = bench.learner(device, **changes, unet=unet)
        loss = learner.fit(None, training_set(1, 64), [5], 0).loss
        assert loss is not None
        losses.append(loss)
    error = relative(losses[1], losses[0])
    bench.check("losses of a training, CPU and GPU", error < 1e-3, f"{error:.1e}")


def _bits(bench: Bench) -> None:
    """The same bits again, alone, from a checkpoint, and in another process."""
    learner, data, seeds = _short(bench), training_set(3, 60), [3, 4, 5]
    first = learner.fit(None, data, seeds, 0)
    again = _short(bench).fit(None, data, seeds, 0)
    bench.check("a training repeated", digest(first.state) == digest(again.state))
    alone = learner.fit(None, TrainingSet(data.samples[1:2], data.sizes[1:2]), [4], 0)
    same = digest(select_row(first.state, 1)) == digest(alone.state)
    bench.check("a row trained alone", same)
    back = to_device(to_device(first.state, "cpu"), bench.device)
    onward = [digest(learner.fit(s, data, seeds, 1).state) for s in (first.state, back)]
    bench.check("a training that goes on from a checkpoint", onward[0] == onward[1])
    model, count = learner.model(first.state), 4 if bench.tiny else 256
    shards = [learner.sample(model, count, seeds, 1, 0) for _ in range(2)]
    bench.check("a shard repeated", torch.equal(*shards))
    row = {name: weight[1:2] for name, weight in model.items()}
    bench.check(
        "a row sampled alone", torch.equal(learner.sample(row, count, [4], 1, 0)[0], shards[0][1])
    )
    command = [sys.executable, "-c", CHILD.format(tiny=bench.tiny)]
    other = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    bench.check("another process", other == digest(first.state))


def _short(bench: Bench) -> OTCFM:
    return bench.learner(
        steps=2 if bench.tiny else 30, initial_steps=2 if bench.tiny else 30, nfe=4
    )


def print_digest(tiny: bool) -> None:
    """What `_bits` trains first, as another process finds it."""
    from rich.console import Console

    bench = Bench(Console(quiet=True), tiny=tiny)
    print(digest(_short(bench).fit(None, training_set(3, 60), [3, 4, 5], 0).state))


def _scores(bench: Bench) -> None:
    """Logits against the CPU's, and whatever else is in the batch."""
    torch.manual_seed(0)
    cpu, (images, _) = VGG11(10).eval(), coloured_digits(20 if bench.tiny else 1500)
    there = VGG11(10).to(bench.device).eval()
    there.load_state_dict(cpu.state_dict())

    def logits(module: VGG11, x: Tensor) -> Tensor:
        return seen_in_chunks(module, x, 8 if bench.tiny else 128)[1]

    error = relative(logits(there, images[:16].to(bench.device)), logits(cpu, images[:16]))
    bench.check("logits, CPU and GPU", error < 1e-4, f"{error:.1e}")
    everything = logits(there, images.to(bench.device))
    some = logits(there, images[: len(images) // 3].to(bench.device))
    bench.check("logits whatever follows in the batch", torch.equal(some, everything[: len(some)]))


def _winners(bench: Bench) -> None:
    """Choices from the same Gumbel draws; streams themselves differ between devices."""
    reward = torch.randn(2, 4000, generator=rng.stream(0, "reward"))
    beta, draws = torch.tensor([1.0, torch.inf]), rng.gumbel(rng.streams([1, 2], "g"), (1000, 4))
    real, found = rng.gumbel, []
    try:
        for device in ("cpu", bench.device):
            rng.gumbel = lambda *_, on=device: draws.to(on)
            winners = choose_among_k(reward.to(device), beta.to(device), 4, [])
            found.append(winners.cpu())
    finally:
        rng.gumbel = real
    bench.check("winners from the same draws, CPU and GPU", torch.equal(*found))
