"""An iteration of the CIFAR-10 experiment on one GPU: ours against torchcfm's recipe, in one run.

Networks have random weights and images are noise, of the true shapes: neither changes the work.
Without a GPU only `--tiny` runs, which shows that everything works and says nothing of speed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cifar10_reference import LOOSER, TOLERANCE, Reference, as_torch_comes
from benchmarks.measure import Options, median_seconds, new_table, show
from luceloop.core import rng
from luceloop.core.classifier.classifier import Classifier
from luceloop.core.classifier.vgg11 import VGG11
from luceloop.core.data.images import ImageData
from luceloop.core.data.labelled import LabelledImages
from luceloop.core.device import make_repeatable
from luceloop.core.learners import solvers
from luceloop.core.learners.base import TrainingSet
from luceloop.core.learners.networks.unet import UNetConfig, torchcfm_module
from luceloop.core.learners.otcfm import OTCFM, OTCFMConfig
from luceloop.sweeps.presets.reading import read_config

SHAPE = (3, 32, 32)
BOUND = 0.02
"""Largest relative error that samples may have, against a fine fp32 solution."""
ITERATIONS, POOL, STEPS = 20, 50_000, 390
"""The paper's longest figure: retrainings, images generated and scored in each, steps of each."""
TARGET = 10.0
"""Times the speed of the reference's iteration."""


@dataclass(frozen=True)
class Work:
    """Sizes of what is timed."""

    sampled: int = 2500
    """Images that are sampled and scored at a time, a shard of the preset."""
    checked: int = 64
    """Images whose error is measured."""
    steps: int = 60
    scored: int = 10_000
    fine: int = 400
    """Evaluations of the fine solution, by rk4."""
    matmul: int = 8192
    """Size of the square matrices that measure the peak."""
    unet: UNetConfig | None = None
    """Another network than the preset's."""
    batch_size: int = 128
    timings: int = 3


TINY = Work(
    sampled=4,
    checked=2,
    steps=3,
    scored=16,
    fine=200,
    matmul=256,
    unet=UNetConfig(channels=32, multipliers=(1,), blocks=1, attention=(), head_channels=32),
    batch_size=4,
    timings=1,
)


@dataclass(frozen=True)
class Speeds:
    """What one way of doing the work reaches."""

    sampled: float
    """Images a second."""
    steps: float
    """Training steps a second."""
    scored: float
    """Images a second."""
    evaluations: int
    """Of the network, for a sample."""
    error: float
    """Relative error of samples."""

    @property
    def hours(self) -> float:
        """Of all iterations."""
        seconds = POOL / self.sampled + STEPS / self.steps + POOL / self.scored
        return ITERATIONS * seconds / 3600


def main(options: Options, console: Console) -> None:
    """Time both and print what they reach."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.quick:
        console.print("cifar10: skipped, there is no GPU; --tiny runs it on the CPU")
        return
    work = TINY if options.quick else Work()
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU, tiny sizes"
    make_repeatable(4 if device == "cuda" else 1)
    bench = Bench(work, device)
    peak = matmul_peak(work.matmul, device)
    rows = {"torchcfm, fp32": bench.reference(TOLERANCE)}
    for label, changes in VARIANTS.items():
        if device == "cpu" and changes["compile"]:
            continue  # code for a CPU takes longer to generate than all else here
        rows[f"Luceloop, {label}"] = bench.ours(changes)
    rows |= bench.as_inexact(max(row.error for row in rows.values()))
    _print(console, name, rows, bench.flop, peak)
    if device == "cuda":
        gibibytes = torch.cuda.max_memory_allocated() / 2**30
        console.print(f"largest GPU memory: {gibibytes:.1f} GiB")


VARIANTS = {
    "fp32": {"precision": "fp32", "compile": False},
    "bf16": {"precision": "bf16", "compile": False},
    "bf16, compiled": {"precision": "bf16", "compile": True},
}


class Bench:
    """The work, and one network's weights that all share."""

    def __init__(self, work: Work, device: str) -> None:
        self.work, self.device = work, device
        preset = read_config("cifar10-confidence", ["lam=inf"]).point
        assert isinstance(preset.learner, OTCFMConfig)
        self.preset = preset
        self.config = preset.learner.model_copy(
            update={
                "unet": work.unet or preset.learner.unet,
                "batch_size": work.batch_size,
                "ot_batch": work.batch_size,
                "steps": work.steps,
            }
        )
        self.weights = random_weights(self._learner({"precision": "fp32", "compile": False}))
        self.noise = torch.randn(work.checked, *SHAPE, generator=rng.stream(0, "noise")).to(device)
        self.images = torch.rand(2500, *SHAPE, generator=rng.stream(0, "images")) * 2 - 1
        self.flop = self._flop()
        self.fine = self._fine()

    def reference(self, tolerance: float) -> Speeds:
        """Torchcfm's recipe, sampled at a tolerance."""
        work = self.work
        reference = Reference(self._module(), self.images, work.batch_size)
        noise = torch.randn(work.sampled, *SHAPE, device=self.device)
        vgg = VGG11(10).to(self.device).eval()
        scored = torch.rand(min(work.sampled, work.scored), *SHAPE, device=self.device)
        with as_torch_comes():
            x, evaluations = reference.sample(self.noise, tolerance)
            sampling = self._seconds(lambda: reference.sample(noise, tolerance))
            training = self._seconds(lambda: reference.train(work.steps))
            with torch.no_grad():
                scoring = self._seconds(lambda: vgg(scored).logits.softmax(1).amax(1))
        return Speeds(
            len(noise) / sampling,
            work.steps / training,
            len(scored) / scoring,
            evaluations,
            self._error(x),
        )

    def as_inexact(self, error: float) -> dict[str, Speeds]:
        """The recipe at the loosest tolerance whose samples are no worse, named by that one."""
        reference = Reference(self._module(), self.images, self.work.batch_size)
        with as_torch_comes():
            near = [
                tolerance
                for tolerance in LOOSER
                if self._error(reference.sample(self.noise, tolerance)[0]) <= error
            ]
        if not near:
            return {}
        return {f"torchcfm at {near[-1]:.0e}": self.reference(near[-1])}

    def ours(self, changes: dict[str, object]) -> Speeds:
        """The preset's learner, solver and evaluations, with another precision."""
        work, learner = self.work, self._learner(changes)
        model = {name: weight[None] for name, weight in self.weights.items()}
        sampling = self._seconds(lambda: learner.sample(model, work.sampled, [0], 0, 0))
        training = TrainingSet(self.images[None], torch.tensor([len(self.images)]))
        state = {"weights": model, "ema": model}
        fitting = self._seconds(lambda: learner.fit(state, training, [0], 1))
        return Speeds(
            work.sampled / sampling,
            work.steps / fitting,
            self._scored_a_second(),
            learner.config.nfe,
            self._error(self._solve(learner, model)),
        )

    def _solve(self, learner: OTCFM, model: dict[str, Tensor]) -> Tensor:
        config = learner.config
        with torch.no_grad():
            x = solvers.solve(
                lambda t, x: learner.network(model, t, x),
                self.noise.flatten(1)[None],
                config.solver,
                config.nfe,
                config.tolerance,
            )
        return x.reshape(self.noise.shape)

    def _scored_a_second(self) -> float:
        """Images a second through our classifier and reward."""
        random = torch.randint(0, 256, (64, *SHAPE), dtype=torch.uint8)
        images = LabelledImages(random, torch.arange(64) % 10)
        data = ImageData(images, [str(i) for i in range(10)], None)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "vgg.pt"
            torch.save(VGG11(10).state_dict(), file)
            assert self.preset.classifier is not None
            chosen = self.preset.classifier.model_copy(update={"weights": str(file)})
            classifier = Classifier(chosen, self.preset.data, data, device=self.device)
            reward = self.preset.reward.build(data, data.class_names)
            pool = torch.rand(self.work.scored, *SHAPE, device=self.device) * 2 - 1
            seconds = self._seconds(lambda: reward(classifier(pool).logits))
        return self.work.scored / seconds

    def _learner(self, changes: dict[str, object]) -> OTCFM:
        learner = self.config.model_copy(update=changes).build(SHAPE, self.device)
        assert isinstance(learner, OTCFM)
        return learner

    def _module(self) -> nn.Module:
        """The network as torchcfm has it."""
        assert self.config.unet is not None
        module = torchcfm_module(self.config.unet, SHAPE, torch.Generator()).to(self.device)
        module.load_state_dict(self.weights)
        return module.eval()

    def _flop(self) -> float:
        """Floating-point operations of the network for an image."""
        module = self._module()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.zeros(1, device=self.device), self.noise[:1])
        return float(counter.get_total_flops())

    def _fine(self) -> Tensor:
        """The solution that errors are measured by, without TF32."""
        allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
        module = self._module()
        with torch.no_grad():
            found = solvers.solve(module, self.noise, "rk4", self.work.fine, 0.0)
        torch.backends.cudnn.allow_tf32 = allowed
        return found

    def _error(self, x: Tensor) -> float:
        return float((x - self.fine).norm() / self.fine.norm())

    def _seconds(self, call: Callable[[], object]) -> float:
        return median_seconds(call, self.work.timings, self._wait)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def random_weights(learner: OTCFM) -> dict[str, Tensor]:
    """Weights of a network whose output is not zero, as that of new ones is."""
    generator = rng.stream(0, "zeros")
    weights = {name: weight[0] for name, weight in learner.network.initialize([0], 0).items()}
    for weight in weights.values():
        if weight.dim() > 1 and not weight.any():
            weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
    return {name: weight.to(learner.device) for name, weight in weights.items()}


def matmul_peak(size: int, device: str) -> float:
    """Floating-point operations a second of a large bf16 matrix product."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(10):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def _print(console: Console, name: str, rows: dict[str, Speeds], flop: float, peak: float) -> None:
    title = (
        f"{name}: measured bf16 matmul peak {peak / 1e12:.3g} TFLOP/s; the network takes "
        f"{flop / 1e9:.3g} GFLOP an image"
    )
    table = new_table(
        "",
        "evaluations",
        "error",
        "sampled/s",
        "of peak",
        "steps/s",
        "of peak",
        "scored/s",
        f"h of {ITERATIONS}",
    )
    batch = TINY.batch_size if "tiny" in name else Work().batch_size
    for label, row in rows.items():
        table.add_row(
            label,
            str(row.evaluations),
            f"{row.error:.1e}",
            f"{row.sampled:.3g}",
            f"{row.sampled * row.evaluations * flop / peak:.0%}",
            f"{row.steps:.3g}",
            f"{3 * row.steps * batch * flop / peak:.0%}",
            f"{row.scored:.3g}",
            f"{row.hours:.3g}",
        )
    show(console, title, table)
    ours = [row for label, row in rows.items() if label.startswith("Luceloop")][-1]
    for label, row in rows.items():
        if not label.startswith("Luceloop"):
            console.print(
                f"an iteration of {POOL} images, {STEPS} steps and their scores: "
                f"{row.hours / ours.hours:.1f} times faster than {label} "
                f"(target: {TARGET:g} or more)"
            )
    console.print(
        f"{ITERATIONS} take {ours.hours:.2f} h (target: 0.5)\nWeights are random: a trained flow "
        f"is harder to solve, and dopri5 then takes more evaluations, ours as many as here"
    )
    if ours.error > BOUND:
        console.print(f"the error {ours.error:.1%} is above the bound, {BOUND:.0%}", style="red")
