"""Memory of a trial: the estimate is what a process takes, and what cannot fit is never begun."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch

from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError
from luceloop.core.io.memory import machine_memory
from luceloop.core.learners.networks.mlp import EnsembleMLP
from luceloop.core.learners.networks.sizes import mlp_size, unet_size
from luceloop.core.learners.networks.unet import UNet, UNetConfig
from luceloop.sweeps.costs.memory import estimate_memory
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.run.check import check
from luceloop.sweeps.run.machines import Room
from luceloop.sweeps.run.needs import shape_of
from luceloop.sweeps.run.room import check_memory
from tests.support import Cli

FACTOR = 1.35
"""By which a process may take more or less than is estimated."""
FEW = ["learner.steps=2", "iterations=1", "learner.nfe=4"]
MEASURED: dict[str, list[str]] = {
    "small": ["mog", *FEW, "seeds=1"],
    "a wide network": [
        "mog", *FEW, "seeds=1", "data.size=100", "learner.batch_size=64", "learner.width=3072",
    ],
    "a wide network and its average": [
        "mog", *FEW, "seeds=1", "data.size=100", "learner.batch_size=64", "learner.width=3072",
        "learner.ema=0.9", "learner.carry_optimizer=true",
    ],
    "many seeds of a wide network": [
        "mog", *FEW, "seeds=8", "data.size=100", "learner.batch_size=64", "learner.width=1024",
        "learner.depth=6",
    ],
    "a large batch": [
        "mog", *FEW, "seeds=1", "data.size=1000", "learner.batch_size=200000",
        "learner.initial_steps=26", "learner.width=32",
    ],
    "large batches of many seeds": [
        "mog", *FEW, "seeds=20", "data.size=1000", "learner.batch_size=20000",
        "learner.initial_steps=26", "learner.width=32",
    ],
    "samples of many coordinates": [
        "mog", "iterations=1", "seeds=10", "learner={name: empirical}",
        "data={name: gaussian, size: 20000, dim: 200}", "reward.mode=0",
    ],
    "images": [
        "digits", *FEW, "learner.initial_steps=2", "seeds=1", "kept_size=20", "quality=null",
        "learner.batch_size=128", "learner.unet.channels=96", "classifier.epochs=1",
    ],
    "pickers who choose from the whole pool": [
        "mog", "learner={name: empirical}", "iterations=1", "seeds=10", "data.size=20000",
        "curation.k=inf",
    ],
}  # fmt: skip


def estimated(arguments: list[str]) -> float:
    point = read_config(arguments[0], arguments[1:]).point
    return estimate_memory(point, shape_of(point, point.data.build())).host


QUICK = {"small", "a wide network"}
KINDS = [pytest.param(k, marks=[] if k in QUICK else [pytest.mark.slow]) for k in MEASURED]


@pytest.mark.processes
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_takes_the_memory_that_is_estimated(kind: str):
    child = [sys.executable, "-m", "tests.sweeps.costs.memory_child", *MEASURED[kind]]
    root = Path(__file__).parents[3]
    environment = dict(os.environ, PYTHONPATH=str(root))
    ran = subprocess.run(child, cwd=root, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    took, told = int(ran.stdout.split()[-1]), estimated(MEASURED[kind])
    assert took / FACTOR < told < took * FACTOR, f"{told / 1e9:.2f} for {took / 1e9:.2f} GB"


NETS = [
    (UNetConfig(channels=32, multipliers=(1,), blocks=1, attention=(4,), head_channels=32), 8),
    (UNetConfig(channels=64, multipliers=(1, 2, 3), blocks=3, attention=(8, 4)), 16),
    (UNetConfig(channels=64, multipliers=(2, 1, 4), blocks=1, attention=(), head_channels=32), 32),
    (UNetConfig(), 32),
]


@pytest.mark.parametrize(("config", "size"), NETS)
def test_the_weights_of_a_u_net_are_counted_without_building_it(config: UNetConfig, size: int):
    built = UNet(config, (3, size, size), "cpu")
    assert unet_size(config, (3, size, size)).weights == built.parameters_count


@pytest.mark.parametrize(("config", "size"), NETS[:3])
def test_what_a_u_net_keeps_for_its_gradient_is_what_torch_saves(config: UNetConfig, size: int):
    module = UNet(config, (3, size, size), "cpu").module.train()
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(torch.rand(4), torch.randn(4, 3, size, size))
    saved = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 4
    assert unet_size(config, (3, size, size)).trained == pytest.approx(saved, rel=0.1)


@pytest.mark.parametrize(("dim", "width", "depth"), [(2, 64, 3), (1, 32, 1), (7, 96, 5)])
def test_the_weights_of_a_perceptron_are_counted(dim: int, width: int, depth: int):
    assert mlp_size(dim, width, depth).weights == EnsembleMLP(dim, width, depth).parameters_count


TOO_LARGE = {
    "learner.width=16384": "learner.width",
    "learner.depth=256 learner.width=512 seeds=40": "learner.depth",
    "learner.batch_size=1000000 seeds=40": "learner.batch_size",
    "data.size=1000000000": "data.size",
    "pool_size=1000000000 sampling.shard_size=1000000000": "sampling.shard_size",
    "kept_size=1000000000 lam=.inf": "kept_size",
    "seeds=10000 learner.width=1024": "seeds",
    "resources.samplers=1000 resources.sampler.cpus=0": "resources.samplers",
}
TOO_LARGE_IMAGES = {
    "learner.unet.channels=4096": "learner.unet.channels",
    "learner.unet.blocks=64 learner.unet.channels=512": "learner.unet.blocks",
    "learner.batch_size=1000000": "learner.batch_size",
    "classifier.width=4096 classifier.batch_size=2048": "classifier.width",
    "classifier.batch_size=1000000": "classifier.batch_size",
}
CASES = [("mog", *case) for case in TOO_LARGE.items()]
CASES += [("digits", *case) for case in TOO_LARGE_IMAGES.items()]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 25 GB and 64 CPUs, whatever this one has, and no Ray."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    for module in ("machines", "room"):
        monkeypatch.setattr(f"luceloop.sweeps.run.{module}.machine_memory", lambda: 25 * 10**9)


@pytest.mark.parametrize(("preset", "overrides", "key"), CASES)
def test_what_a_machine_cannot_hold_is_refused_unbuilt(preset, overrides, key, machine):
    config = read_config(preset, overrides.split())
    config.point.data.build()
    tracemalloc.start()
    with pytest.raises(ConfigError) as error:
        check(config)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    line = str(error.value)
    assert error.value.key == key and "\n" not in line
    assert "takes " in line and "this machine has" in line
    assert peak < 50 * 2**20


def test_what_is_sent_elsewhere_is_not_built_here_either(machine):
    large = ["learner.unet.channels=4096", "learner.unet.blocks=16"]
    with pytest.raises(ConfigError, match=r"learner.unet.channels=4096: the network alone takes"):
        check(read_config("digits", large), here=False)
    large = ["learner.width=16384", "learner.depth=256", "seeds=100"]
    with pytest.raises(ConfigError, match=r"learner.width=16384: .* the largest machine has"):
        check(read_config("mog", large), here=False)
    check(read_config("mog", ["learner.width=16384"]), here=False)  # another machine may hold it


def test_a_preview_beyond_all_samples_is_refused(cli: Cli, tmp_path):
    ran = cli("validate", "mog", "sampling.preview=99999999999", "--output", str(tmp_path / "out"))
    assert ran.code == 2 and ran.err.startswith("sampling.preview=99999999999: ")
    assert not (tmp_path / "out").exists()


def test_a_gpu_is_looked_at_by_itself():
    """What lies on it counts there and not in the machine's memory."""
    config = read_config("mog", ["learner.width=8192", "seeds=1", "search={}"])
    machine = {"CPU": 2.0, "GPU": 1.0}
    points = [config.point]
    check_memory(config, points, machine, Room(4e9, "this machine", device=80e9))
    with pytest.raises(ConfigError, match=r"learner.width=8192: .* its GPU has 4.0 GB"):
        check_memory(config, points, machine, Room(100e9, "this machine", device=4e9))
    with pytest.raises(ConfigError, match=r"learner.width=8192: .* this machine has 4.0 GB"):
        check_memory(config, points, {"CPU": 2.0}, Room(4e9, "this machine"))


def test_every_preset_fits_into_the_machine_that_it_is_for():
    for name in ("demo", "mog", "moons", "digits", "pluralism", "stability"):
        config = read_config(name, [])
        room = Room(8e9, "a laptop")
        check_memory(config, [config.point], {"CPU": 2.0}, room)


def test_code_of_the_users_own_counts_as_its_data_alone(tmp_path):
    learner = {"name": "my_learners:Any"}
    point = parse_config({"name": "x", "data": {"name": "two_moons"}, "learner": learner}).point
    found = estimate_memory(point, shape_of(point, point.data.build())).host
    assert 0.5e9 < found < 1.5e9


def test_validate_says_how_much_memory_a_trial_takes(cli: Cli, tmp_path):
    few = ["seeds=1", "data.size=100", "learner={name: empirical}"]
    ran = cli("validate", "demo", *few, "--output", str(tmp_path / "out"))
    assert ran.code == 0 and "MB of memory a trial" in ran.out
    assert machine_memory() > 10**9
