"""Sweeps on images, from the command to the pictures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from luceloop.sweeps.record.folders import Output
from tests.processes import finish, luceloop, rows
from tests.support import QUICK, Cli, curves, run_main, write_cifar10

TINY = [
    "learner.steps=2", "learner.initial_steps=2", "learner.batch_size=4", "learner.nfe=4",
    "classifier.epochs=1", "curation.k=2", "kept_size=8", "iterations=1", "seeds=[4,5]",
]  # fmt: skip


@pytest.fixture(scope="module")
def digits(local_ray, empty_store, tmp_path_factory) -> Path:
    """The output of a tiny `digits`, whose trials have a sampler each."""
    output = tmp_path_factory.mktemp("digits")
    shutil.copy(empty_store, output / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ran = run_main("run", "digits", *TINY, "resources.samplers=1", "--output", str(output))
    assert ran == 0
    return output


def test_digits_run_end_to_end(digits, cli: Cli, tmp_path):
    output, where = digits, ["--output", str(digits)]
    assert cli("export", "digits", "-o", str(tmp_path / "t.csv"), *where).code == 0
    table = pd.read_csv(tmp_path / "t.csv")
    seeds = table[table["seed"].notna()]
    shares = seeds[seeds["metric"].str.startswith("class_fraction/")]
    assert shares["metric"].nunique() == 10
    totals = shares.groupby(["point", "seed", "iteration"])["value"].sum()
    assert len(totals) == 2 * 2 * 2 and (totals - 1).abs().max() < 1e-12
    reward = seeds[seeds["metric"] == "reward_mean"]["value"]
    assert reward.between(0, 1).all()
    assert {"frechet_distance", "precision", "recall"} <= set(seeds["metric"])
    found = Output(output)
    client = MlflowClient(found.tracking_uri)
    ids = [e.experiment_id for e in client.search_experiments() if e.name.startswith("digits/")]
    points = client.search_runs(ids, "tags.`luceloop.kind` = 'point'")
    for run in points:
        names = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
        steps = [name.split("+step+")[1].split("+")[0] for name in names if name.endswith(".png")]
        assert sorted(steps) == ["0", "1"]  # each iteration once
    figures = {path.name for path in found.find("latest").figures.iterdir()}
    assert {"samples.png", "class_shares.png", "overview.png"} <= figures
    assert len(list(found.cache.glob("classifier-*.pt"))) == 1  # trained once for all processes


ON_GPUS = """
import ray
from luceloop.sweeps.cli.app import main
# Logical GPUs: Ray hands them out, and what runs on them finds none and computes on the CPU.
ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
main()
"""


@pytest.mark.slow
def test_actors_on_gpus_share_seeds_and_shards_and_change_nothing(digits, output):
    """On two GPUs each trial holds half of one, and its sampler the other half."""
    command = ["run", "digits", *TINY, "resources.samplers=1", QUICK, "--output", str(output)]
    ran = subprocess.run(
        [sys.executable, "-c", ON_GPUS, *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        env=dict(os.environ, LUCELOOP_GPU_OPTIONAL="1"),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    pd.testing.assert_frame_equal(curves(output), curves(digits), check_exact=True)


def test_a_classifier_can_be_trained_alone(cli: Cli, tmp_path):
    arguments = ["digits", "classifier.epochs=3", "--output", str(tmp_path)]
    first = cli("train-classifier", *arguments)
    assert first.code == 0 and float(first.out.split()[0]) > 90  # after three epochs of twenty
    [file] = (tmp_path / "cache").glob("classifier-*.pt")
    written = file.stat().st_mtime_ns
    assert cli("train-classifier", *arguments).out == first.out
    assert file.stat().st_mtime_ns == written  # it was trained once
    assert cli("train-classifier", "demo").err.startswith("classifier=None: must be set")


CIFAR = [
    *TINY, "curation.k=4", "pool_size=32", "iterations=2", "sampling.shard_size=12", QUICK,
    "quality.samples=10", "learner.compile=false", "learner.solver=euler", "learner.nfe=2",
    "learner.unet.blocks=1", "learner.unet.channels=32", "learner.unet.multipliers=[1, 1]",
    "learner.unet.head_channels=32", "resources.threads=1", "resources.samplers=0",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.processes
def test_the_papers_experiment_runs_and_resumes_on_a_small_archive(
    local_ray, cli: Cli, output, empty_store, tmp_path
):
    write_cifar10(tmp_path)
    arguments = ["run", "cifar10-confidence", f"data.root={tmp_path}", *CIFAR]
    ran = cli(*arguments, "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    undisturbed = curves(output)
    seeds = undisturbed[undisturbed["seed"].notna()]
    # Two points, two seeds, three iterations.
    assert len(seeds[seeds["metric"] == "reward_mean"]) == 2 * 2 * 3
    assert seeds[seeds["metric"] == "reward_mean"]["value"].between(0.1, 1).all()
    assert {"frechet_distance", "recall", "class_fraction/9"} <= set(seeds["metric"])

    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copy(empty_store, killed / "mlflow.db")
    process = luceloop(killed, *arguments)
    while len(rows(killed)) < 2 and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    finish(process, -signal.SIGKILL)
    assert 2 <= len(rows(killed)) < 6
    ran = cli("resume", "latest", QUICK, "--output", str(killed))
    assert ran.code == 0, ran.out + ran.err
    pd.testing.assert_frame_equal(curves(killed), undisturbed, check_exact=True)
