"""What several test modules share."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luceloop.analysis.reading.curves import load_table
from luceloop.sweeps.record.folders import Output, SweepFolder

SMALL = ["data.size=300", "learner.steps=40", "learner.batch_size=64", "sampling.shard_size=200"]
"""Overrides that make a sweep with the real learner take seconds."""


QUICK = "--no-figures"
ALONE = "resources.samplers=0"
"""Trials without samplers, which change no result and are further processes to start."""
PAIRWISE = [ALONE, "resources.trial.cpus=2"]
"""On the session's Ray besides, two processes for all points, each for one after another."""

SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "user-5f1e",
    "MLFLOW_TRACKING_PASSWORD": "password-77aa",
    "MLFLOW_TRACKING_TOKEN": "token-c0de",
}

TINY_LAST = 20
TINY_ROWS = 2 * (TINY_LAST + 1)
"""Iterations of both points."""
TINY = ["run", "mog", "learner={name: empirical}", "data.size=100", "seeds=[1,2]", QUICK]
TINY += [f"iterations={TINY_LAST}", "search.beta.grid=[0,10]", "search.lam.grid=[1]"]
"""A sweep of many short iterations."""

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


def run_main(*arguments: str) -> int:
    """The exit code of `luceloop ARGUMENTS`."""
    from luceloop.sweeps.cli.app import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["luceloop", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
    return int(exit_.value.code or 0)


def swept(folder: Path, *arguments: str) -> Path:
    """A folder in which `luceloop ARGUMENTS` has run a sweep, for a module's tests to share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main(*arguments, "--output", str(folder)) == 0
    return folder


def latest(output: Path) -> SweepFolder:
    """The newest sweep of an output folder."""
    return Output(output).find("latest")


@dataclass(frozen=True)
class Finished:
    """A sweep of 2 x 2 points and 3 seeds that has ended."""

    output: Path
    table: Path
    points: int = 4
    seeds: tuple[int, ...] = (7, 8, 9)
    iterations: int = 3

    @property
    def store(self) -> str:
        return f"sqlite:///{self.output / 'mlflow.db'}"


def curves(output: Path, store: str | None = None, sweep: str = "latest") -> pd.DataFrame:
    """The exported table without what may differ: the sweep's id and how long things took."""
    from luceloop.sweeps.record.folders import Output

    table = load_table(store or f"sqlite:///{output / 'mlflow.db'}", Output(output).find(sweep).id)
    table = table.drop(columns="sweep")
    return table[~table["metric"].str.startswith("seconds/")].reset_index(drop=True)


def recorded(output: Path) -> int:
    """Iterations on record in a folder of one sweep."""
    from luceloop.sweeps.record.ledger import Ledger

    folders = Output(output).sweeps()
    if not folders:
        return 0
    return sum(point.last + 1 for point in Ledger(folders[0].ledger, False).points.values())


def write_cifar10(root: Path) -> tuple[np.ndarray, list[int]]:
    """Fifty training and ten test images in the files of CIFAR-10; pixels and labels of all."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (60, 3072), dtype=np.uint8)
    labels = [int(label) for label in random.permutation(np.arange(60) % 10)]
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for i, name in enumerate(names):
        part = slice(10 * i, 10 * i + 10)
        content = {"data": pixels[part], "labels": labels[part]}
        (folder / name).write_bytes(pickle.dumps(content))
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    meta = {"label_names": [*classes, "truck"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta))
    return pixels, labels


USERS_OWN = '''
"""A module as a user would write it beside a configuration."""
import ctypes
import os

import torch

from luceloop.core.learners.base import Fitted


def right(x):
    return x[:, 0]


def bounded(x):
    return torch.tanh(x[:, 0])


bounded.supremum = 1.0


class WhoTrains:
    """A learner of large networks whose state tells the process that trained each row."""

    one_by_one = True

    def __init__(self, shape, device):
        self.shape = shape

    def fit(self, state, training, seeds, iteration):
        who = torch.full((len(seeds), 1), float(os.getpid()))
        return Fitted({"who": who, "iteration": who * 0 + iteration}, None)

    def fit_initial(self, training, seeds, progress):
        return self.fit(None, training, seeds, 0)

    def model(self, state):
        return dict(state)

    def sample(self, model, count, seeds, iteration, shard):
        return torch.zeros(len(seeds), count, *self.shape)


def wrong_shape(x):
    return x


def nan(x):
    return x[:, 0] * float("nan")


def raises(x):
    raise KeyError("a key of the user's")


def leaves(x):
    raise SystemExit(0)


def ends(x):
    os._exit(0)


def crashes(x):
    """Ends the process as compiled code would, of which Python does not hear."""
    ctypes.CDLL(None)._exit(0)
'''


def users_folder(parent: Path) -> Path:
    """A folder with a configuration, a reward and data of the user's own."""
    folder = parent / "mine"
    folder.mkdir()
    np.savez(folder / "mine.npz", x=np.random.default_rng(0).normal(size=(300, 2)))
    (folder / "users_own.py").write_text(USERS_OWN)
    (folder / "mine.yaml").write_text("data: {name: npz, path: mine.npz}\n")
    return folder
