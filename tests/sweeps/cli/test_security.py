"""What a configuration from elsewhere can do: what its keys say, and no more than fits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import Cli

HUGE = [
    ("seeds=1000000000", "seeds"),
    ("seeds=[99999999999999999999]", "seeds.0"),
    ("iterations=1000000000000", "iterations"),
    ("pool_size=1000000000000", "pool_size"),
    ("data.size=1000000000000", "data.size"),
    ("resources.samplers=1000000000", "resources.samplers"),
]


@pytest.mark.parametrize(("override", "key"), HUGE, ids=[key for _, key in HUGE])
def test_huge_values_are_refused_at_once(cli: Cli, override, key):
    ran = cli("validate", "demo", override)
    assert ran.code == 2 and ran.err.startswith(f"{key}=") and ran.err.count("\n") == 1


def test_a_pool_of_too_many_shards_is_refused(cli: Cli, monkeypatch):
    monkeypatch.setattr("luceloop.sweeps.run.machines.machine_memory", lambda: 10**15)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    ran = cli("validate", "demo", "pool_size=1000000000", "sampling.shard_size=1")
    assert ran.code == 2 and ran.err.startswith("sampling.shard_size=1: makes more than")


def test_a_sweep_of_too_many_points_is_refused(cli: Cli):
    grid = "search.lam.grid=[" + ",".join(str(i) for i in range(400)) + "]"
    ran = cli("validate", "demo", grid, grid.replace("lam", "beta"))
    assert ran.code == 2 and ran.err.startswith("search=160000: must be at most")


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "", ".hidden", "a\nb"])
def test_names_are_no_paths(cli: Cli, name):
    ran = cli("validate", "demo", f"name={name!r}")
    assert ran.code == 2 and ran.err.startswith("name=") and ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "name: !!python/object/apply:os.system ['touch run']",
        "reward: {name: !!python/name:os.system }",
    ],
)
def test_yaml_builds_plain_values_only(cli: Cli, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(f"{line}\ndata: {{name: two_moons}}\n")
    ran = cli("validate", "sweep.yaml")
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["os.system", "os", "../evil:run", "os:system; import sys", "a b:c"]
)
def test_code_is_named_as_module_and_attribute_or_not_run(cli: Cli, name):
    ran = cli("validate", "demo", f"reward={{name: '{name}'}}")
    assert ran.code == 2 and ran.err.count("\n") == 1


def test_arrays_are_read_without_pickle(cli: Cli, tmp_path):
    file = tmp_path / "data.npz"
    np.savez(file, x=np.array([{"an": "object"}], dtype=object))
    ran = cli("validate", "demo", f"data={{name: npz, path: '{file}'}}")
    assert ran.code == 2 and ran.err.startswith("data.path=") and ran.err.count("\n") == 1


@pytest.mark.parametrize("metric", ["no_such", "a\nb", "../x", "'; drop table metrics; --"])
def test_hostile_metric_names_are_refused(cli: Cli, metric):
    ran = cli("validate", "demo", f"search.objective.metric={metric!r}")
    assert ran.code == 2 and ran.err.startswith("search.objective") and ran.err.count("\n") == 1
