"""Sweeps on images, from the command to the pictures."""

from __future__ import annotations

import pandas as pd
from mlflow import MlflowClient

from sweeps.output import Output
from tests.support import Cli, write_cifar10

TINY = [
    "learner.steps=2", "learner.initial_steps=2", "learner.batch_size=4", "learner.nfe=4",
    "classifier.epochs=1", "curation.k=2", "kept_size=8", "iterations=1", "seeds=[4,5]",
]  # fmt: skip


def test_digits_run_end_to_end(local_ray, cli: Cli, output, tmp_path):
    where = ["--output", str(output)]
    ran = cli("run", "digits", *TINY, "resources.samplers=1", *where)
    assert ran.code == 0, ran.out + ran.err
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
        names = {item.path for item in client.list_artifacts(run.info.run_id, "samples")}
        pictures = {f"samples/iteration-000{t}.png" for t in (0, 1)}
        assert pictures <= names
    figures = {path.name for path in found.find("latest").figures.iterdir()}
    assert {"samples.png", "class_shares.png", "overview.png"} <= figures
    assert len(list(found.cache.glob("classifier-*.pt"))) == 1  # trained once for all processes


def test_a_classifier_can_be_trained_alone(cli: Cli, tmp_path):
    arguments = ["digits", "classifier.epochs=3", "--output", str(tmp_path)]
    first = cli("train-classifier", *arguments)
    assert first.code == 0 and float(first.out.split()[0]) > 90  # after three epochs of twenty
    [file] = (tmp_path / "cache").glob("classifier-*.pt")
    written = file.stat().st_mtime_ns
    assert cli("train-classifier", *arguments).out == first.out
    assert file.stat().st_mtime_ns == written  # it was trained once
    assert cli("train-classifier", "demo").err.startswith("classifier=None: must be set")


def test_cifar10_runs_on_an_archive_of_its_own_format(local_ray, cli: Cli, output, tmp_path):
    write_cifar10(tmp_path)
    where = ["--output", str(output)]
    arguments = [f"data={{name: cifar10, root: {tmp_path}}}", "reward={name: max_confidence}"]
    net = [
        "quality=null",
        "learner.unet.multipliers=[1,1]",
        "sampling.preview=0",
        "search.lam.grid=[.inf]",
    ]
    ran = cli("run", "digits", *arguments, *TINY, *net, "--no-figures", *where)
    assert ran.code == 0, ran.out + ran.err
    ran = cli("show", "latest", *where)
    assert "done" in ran.out and "no forecast" not in ran.out
