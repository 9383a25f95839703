"""What a sweep's runs are labelled with in MLflow: one spelling, for who writes and who reads."""

from __future__ import annotations

from typing import Literal

Kind = Literal["sweep", "point", "seed"]
"""A run holds a sweep's files, a point's aggregate curves, or a seed's raw curves."""

KIND = "luceloop.kind"
"""Tag: the run's `Kind`."""
SWEEP = "luceloop.sweep"
"""Tag: the id of the run's sweep."""
POINT = "luceloop.point"
"""Tag of points and seeds: the point's number."""
SEED = "luceloop.seed"
"""Tag of seeds: the seed."""
SEARCHED = "luceloop.searched"
"""Tag: the dotted keys that the sweep varies, a JSON list."""
VALUES = "luceloop.values"
"""Tag of points: their values of those keys, a JSON mapping."""
STATUS = "luceloop.status"
"""Tag of points that have ended: `done`, `stopped`, `failed` or `lost`."""
STOPPED = "luceloop.stopped"
"""Tag of the sweep's run: what limit of its budget it stopped at; empty if it went on."""
COST = "luceloop."
"""Start of the tags of points that have ended that say what they cost: `luceloop.samples`, …"""
SUPREMUM = "luceloop.supremum"
"""Tag of points: the least upper bound of the reward, r*; not there where it is not known."""

LEVEL = "luceloop.level"
"""Tag of points: the level of their intervals, where seeds are added until enough is known."""

NOTE = "mlflow.note.content"
"""MLflow's tag of an experiment's or a run's description."""
VIEW_KEY = "luceloop"
"""Name of the prepared view, as in the page's address."""
VIEW = f"mlflow.sharedViewState.{VIEW_KEY}"
"""MLflow's tag of an experiment's prepared view, a JSON mapping."""
COLOR = "mlflow.runColor"
"""MLflow's tag of a run's colour in charts."""
PARENT = "mlflow.parentRunId"
"""MLflow's tag of the run that another stands beneath."""

BETA, LAM, K, SEED_PARAM = "curation.beta", "lam", "curation.k", "seed"
"""Parameters: dotted keys of the configuration, and a seed's number."""
SEEDS = "seeds"
"""Parameter: how many seeds the point has."""

SAMPLES, INITIAL, FIGURES = "samples", "initial", "figures"
"""Folders of a run's artifacts: samples by iteration, rewards of p_0's pool, drawn figures."""
REAL_REWARDS = "real.npz"
"""File of the real data's rewards, beside those of p_0's pool."""
CONFIG = "config.yaml"
"""File of a configuration: the sweep's, or a point's own."""
PICTURES = "samples"
"""Name of the pictures of samples, by iteration, on the chart page."""
PROVENANCE = "provenance"
"""Folder of the sweep's artifacts: digests and copies of the user's files, and git's state."""


def experiment_name(config_name: str, sweep: str) -> str:
    """The name of a sweep's experiment."""
    return f"{config_name}/{sweep}"


def chart_page(base: str, experiment: str) -> str:
    """The address of an experiment's chart page on a server, which compares its points."""
    view = f"compareRunsMode=CHART&viewStateShareKey={VIEW_KEY}"
    return f"{base}/#/experiments/{experiment}/runs?{view}"


def aggregate_name(metric: str, statistic: str) -> str:
    """The name of a statistic over seeds of a metric."""
    return f"{metric}.{statistic}"
