"""The presets are valid, and are the paper's where they say so."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from luceloop.analysis.statistics.starts import WIDEST
from luceloop.core.config.budget import BudgetConfig
from luceloop.core.config.parsing import plain_config
from luceloop.core.config.search import ObjectiveConfig, SearchConfig
from luceloop.core.config.seed_rule import SeedRule, WidthGoal
from luceloop.core.loop.loop import run_loop
from luceloop.core.pool.rows import training_sizes
from luceloop.sweeps.presets import preset_names
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.run.check import check
from tests.support import write_cifar10


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A folder with fifty images in CIFAR-10's format."""
    folder = tmp_path_factory.mktemp("data")
    write_cifar10(folder)
    return folder


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_runs_as_far_as_can_be_checked(name, archive):
    small = [f"data.root={archive}", "kept_size=8", "pool_size=160", "resources.trial.gpus=0"]
    assert check(read_config(name, small if name.startswith("cifar10") else [])) >= 2


@pytest.mark.parametrize(
    ("name", "iterations"), [("mog", 8), ("moons", 5), ("mog-ddpm", 8), ("moons-ddpm", 5)]
)
def test_the_papers_sizes(name, iterations):
    config = read_config(name, [])
    point = config.point
    assert point.iterations == iterations and len(point.seeds) == 5
    assert config.search.space["lam"].values == [1, math.inf]
    sizes = training_sizes(read_config(name, ["lam=inf"]).point, 5000)
    assert (sizes.real, sizes.kept, sizes.pool) == (0, 5000, 10_000)
    sizes = training_sizes(read_config(name, ["lam=1"]).point, 5000)
    assert (sizes.real, sizes.kept, sizes.pool) == (5000, 5000, 10_000)
    assert point.k == 2 and point.beta == 10


@pytest.mark.parametrize("name", ["demo", "mog", "mog-search", "mog-ddpm", "moons", "moons-ddpm"])
def test_p_0_is_about_as_wide_as_the_data(name, record_property):
    config = read_config(name, ["iterations=0", "seeds=1"])
    assert config.point.quality is not None
    first = next(run_loop(config))
    width = float(first.metrics["width_ratio"])
    record_property("width_ratio", width)
    print(f"{name}: p_0 has width_ratio {width:.3f}")
    # One seed of 4,000 or more samples: the ratio's own error is below 2 %.
    assert 0.9 < width <= WIDEST, width
    assert float(first.metrics["precision"]) > 0.9 and float(first.metrics["recall"]) > 0.9


@pytest.mark.parametrize("name", ["cifar10-airplane", "cifar10-confidence"])
def test_the_papers_sizes_on_cifar10(name):
    config = read_config(name, [])
    point = config.point
    assert point.iterations == 10 and len(point.seeds) == 3
    assert point.k == 20 and point.beta == 5  # all that is generated is compared
    assert config.search.space["lam"].values == [0.5, math.inf]
    for lam, real in (("0.5", 5000), ("inf", 0)):
        sizes = training_sizes(read_config(name, [f"lam={lam}"]).point, 50_000)
        assert (sizes.real, sizes.kept, sizes.pool) == (real, 2500, 50_000)


@pytest.mark.parametrize("name", preset_names())
def test_a_written_configuration_reads_back_the_same(name, tmp_path):
    config = read_config(name, ["seeds=[5,6]", "k=inf"])
    folder = Output(tmp_path).create_sweep(config, "why")
    assert folder.config() == config
    assert plain_config(folder.config()) == plain_config(config)


def test_the_documentation_names_every_key():
    documented = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    every = ["demo", "moons", "mog-ddpm", "digits", "accumulate"]
    keys = {key for name in every for key in read_config(name, []).point.flat()}
    keys |= set(read_config("demo", ["data.name=npz", "data.path=x.npz"]).point.flat())
    for data in ("cifar10", "image_folder"):
        keys |= set(read_config("digits", [f"data.name={data}", "data.root=x"]).point.flat())
    keys |= set(read_config("digits", ["classifier.name=vgg11_bn"]).point.flat())
    keys |= set(read_config("digits", ["reward.name=label_set", "reward.labels=[1]"]).point.flat())
    keys -= {f"{part}.name" for part in ("data", "learner", "classifier", "reward")}  # headings
    users = read_config("pluralism", []).point.flat()
    keys |= {key for key in users if key.startswith("curation.users.0.")}
    keys -= {key for key in keys if ".0.reward." in key}  # as those of reward
    keys |= {"curation.users.0.reward", "curation.flip", "curation.args"}
    keys = {key.replace("curation.users.0", "curation.users.<i>") for key in keys}
    keys |= {"name", "description"} | {f"budget.{key}" for key in BudgetConfig.model_fields}
    keys -= {"classifier", "quality"}
    own = read_config("demo", ["metrics.own=m:f"]).point.flat()
    keys |= {key for key in own if key.startswith("metrics.")}
    keys = {key.replace("metrics.own", "metrics.<name>") for key in keys}
    keys -= {"resources.sampler.cpus", "resources.sampler.gpus"}  # as those of resources.trial
    missing = {key for key in keys if f"`{key}`" not in documented}
    options = SearchConfig.model_fields.keys() | ObjectiveConfig.model_fields.keys()
    missing |= {key for key in options - {"space"} if f"{key}`" not in documented}
    rules = [f"seeds.{key}" for key in SeedRule.model_fields]
    rules += [f"seeds.until.{key}" for key in WidthGoal.model_fields]
    missing |= {key for key in rules if f"`{key}`" not in documented}
    assert not missing
