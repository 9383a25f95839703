"""The cache of trained p_0: nothing trained twice, nothing shared that differs."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luceloop.core import rng
from luceloop.core.config.point import PointConfig
from luceloop.core.io.saved import save_atomically
from luceloop.core.learners.base import Fitted, LearnerConfig, PatientLearner, Progress, TrainingSet
from luceloop.core.learners.kinds import LEARNERS
from luceloop.core.loop.initial import InitialModels, ProgressFile, initial_key
from luceloop.core.loop.loop import Loop

OTCFM = {
    "name": "otcfm",
    "steps": 4,
    "initial_steps": 12,
    "batch_size": 16,
    "width": 32,
    "depth": 1,
    "nfe": 4,
    "ot_batch": 4,
    "ema": 0.9,
}


def _model(seeds: list[int]) -> Fitted:
    """A stand-in for a training: what it returns says which seed it was for."""
    values = torch.tensor(seeds, dtype=torch.float64)
    return Fitted({"weights": {"w": values[:, None]}, "step": values}, loss=values / 10)


class Trainer:
    """Counts the trainings of each seed."""

    def __init__(self, seeds: list[int], seconds: float = 0.0) -> None:
        self.seeds, self.seconds = seeds, seconds
        self.trained: list[int] = []

    def __call__(self, rows: list[int], progress: Progress) -> Fitted:
        time.sleep(self.seconds)
        self.trained += [self.seeds[row] for row in rows]
        return _model([self.seeds[row] for row in rows])


def _get(folder: Path, seeds: list[int], key: str = "key") -> tuple[Fitted, list[int]]:
    trainer = Trainer(seeds)
    return InitialModels(folder).get(key, seeds, trainer), trainer.trained


# --- what is trained


def test_only_missing_seeds_are_trained(tmp_path):
    assert _get(tmp_path, [4, 2])[1] == [4, 2]
    assert _get(tmp_path, [2, 4])[1] == []
    found, trained = _get(tmp_path, [9, 4, 1, 2])
    assert trained == [9, 1]
    # Each row is that of its own seed, whoever trained it and in whatever order.
    assert found.state["weights"]["w"].tolist() == [[9.0], [4.0], [1.0], [2.0]]
    assert found.loss is not None
    assert found.loss.tolist() == [0.9, 0.4, 0.1, 0.2]


def test_models_of_another_fingerprint_are_not_used(tmp_path):
    _get(tmp_path, [1], key="one")
    assert _get(tmp_path, [1], key="other")[1] == [1]


def test_a_learner_without_loss_is_cached_too(tmp_path):
    for _ in range(2):
        found = InitialModels(tmp_path).get(
            "key", [1, 2], lambda rows, _: Fitted({"x": torch.zeros(len(rows), 1)}, None)
        )
        assert found.loss is None and found.state["x"].shape == (2, 1)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("workers", [2, 8])
def test_threads_that_ask_at_once_train_exactly_once(tmp_path, workers, apart):
    seeds = [1, 2, 3]
    trainer, barrier = Trainer(seeds, seconds=0.1), threading.Barrier(workers)
    found: list[Fitted] = []

    def ask() -> None:
        barrier.wait()
        found.append(InitialModels(tmp_path).get("key", seeds, trainer, apart))

    threads = [threading.Thread(target=ask) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(trainer.trained) == seeds
    assert [model.state["step"].tolist() for model in found] == [[1.0, 2.0, 3.0]] * workers


@pytest.mark.parametrize("apart", [False, True])
def test_requests_that_overlap_train_each_seed_once(tmp_path, apart):
    requests = [[1, 2], [2, 3], [3, 1], [4]]
    trainers = [Trainer(seeds, seconds=0.05) for seeds in requests]
    barrier = threading.Barrier(len(requests))

    def ask(trainer: Trainer) -> None:
        barrier.wait()
        InitialModels(tmp_path).get("key", trainer.seeds, trainer, apart)

    threads = [threading.Thread(target=ask, args=(trainer,)) for trainer in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seed for trainer in trainers for seed in trainer.trained) == [1, 2, 3, 4]


def test_two_that_need_the_same_models_one_by_one_share_the_work(tmp_path):
    trainers = [Trainer([1, 2, 3, 4], seconds=0.2) for _ in range(2)]
    barrier = threading.Barrier(2)

    def ask(trainer: Trainer) -> None:
        barrier.wait()
        InitialModels(tmp_path).get("key", trainer.seeds, trainer, one_by_one=True)

    threads = [threading.Thread(target=ask, args=(trainer,)) for trainer in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(trainer.trained for trainer in trainers)
    assert sorted(trainers[0].trained + trainers[1].trained) == [1, 2, 3, 4]


PROCESS = """
import sys, time
from pathlib import Path
import torch
from luceloop.core.loop.initial import InitialModels
from luceloop.core.learners.kinds import LEARNERS
from luceloop.core.learners.base import Fitted

folder, log, ready = map(Path, sys.argv[1:4])
name = sys.argv[4]

def train(rows, _):
    with log.open("a") as file:
        file.write(f"{name} {rows}\\n")
    time.sleep(0.3)
    return Fitted({"w": torch.ones(len(rows), 1)}, None)

(ready / name).touch()
while len(list(ready.iterdir())) < 3:
    time.sleep(0.01)
print(InitialModels(folder).get("key", [5, 6], train).state["w"].tolist())
"""


@pytest.mark.external
@pytest.mark.slow
def test_processes_that_ask_at_once_train_exactly_once(tmp_path):
    ready = tmp_path / "ready"
    ready.mkdir()
    places = [str(tmp_path / "cache"), str(tmp_path / "log"), str(ready)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *places, str(number)],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert outputs == ["[[1.0], [1.0]]"] * 3
    assert len((tmp_path / "log").read_text().splitlines()) == 1


# --- the same bits


def _tensors(state: Mapping[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        nested = isinstance(value, Mapping)
        found |= _tensors(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def _first(config: PointConfig, cache: Path | None) -> dict[str, torch.Tensor]:
    """All that p_0 leaves, by name."""
    result = next(Loop(config, cache=cache).run())
    assert result.state.kept is not None
    found = {"kept": result.state.kept, "loss": result.metrics["loss"]}
    return _tensors(result.state.learner) | found


def test_a_cached_model_has_the_bits_of_an_uncached_one(make_config, tmp_path):
    config = make_config(learner=OTCFM, seeds=[1, 2, 3])
    expected = _first(config, None)
    for _ in range(2):  # trained, then read
        found = _first(config, tmp_path)
        for name, value in expected.items():
            assert torch.equal(found[name], value), name


@pytest.mark.parametrize("earlier", [[4], [2, 3, 4], [1, 5]], ids=str)
def test_a_model_has_the_same_bits_whichever_seeds_it_was_trained_beside(
    make_config, tmp_path, earlier
):
    network = {"name": "otcfm", "steps": 2, "initial_steps": 40}  # the default one
    config = make_config(learner=network, seeds=[1, 2, 3, 4, 5])
    expected = _first(config, None)
    _first(make_config(learner=network, seeds=earlier), tmp_path)
    found = _first(config, tmp_path)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


# --- fingerprints


Change = dict[str, Any]
BASE: Change = {"learner": OTCFM}


def _fingerprint(make_config: Callable[..., PointConfig], change: Change) -> str:
    return initial_key(make_config(**BASE | change), "cpu")


IGNORED: list[Change] = [
    {"curation": {"beta": 7}},
    {"curation": {"k": 5}},
    {"curation": {"k": "inf", "beta": "inf"}},
    {"lam": 0.5},
    {"iterations": 9},
    {"reward": {"mode": 3}},
    {"reward": {"name": "some.module:attribute"}},
    {"seeds": [8, 9]},
    {"real_size": 20},
    {"kept_size": 20},
    {"pool_size": 500},
    {"name": "other", "description": "words"},
    {"search": {"beta": {"grid": [1, 2]}}},
    {"sampling": {"shard_size": 10, "preview": 3}},
    {"resources": {"samplers": 3, "trial": {"cpus": 2}}},
    {"learner": OTCFM | {"steps": 99}},
    {"learner": OTCFM | {"init": "scratch"}},
    {"learner": OTCFM | {"nfe": 8}},
    {"learner": OTCFM | {"solver": "dopri5", "tolerance": 1e-3}},
    {"learner": OTCFM | {"carry_optimizer": True}},
]


@pytest.mark.parametrize("change", IGNORED, ids=str)
def test_what_does_not_train_p_0_does_not_change_its_fingerprint(make_config, change):
    assert _fingerprint(make_config, change) == _fingerprint(make_config, {})


DETERMINING: list[Change] = [
    {"data": {"name": "eight_gaussians", "size": 61}},
    {"data": {"name": "eight_gaussians", "size": 60, "std": 0.5}},
    {"data": {"name": "eight_gaussians", "size": 60, "radius": 4.0}},
    {"data": {"name": "two_moons", "size": 60}},
    {"learner": {"name": "empirical"}},
    {"resources": {"threads": 2}},
    *(
        {"learner": OTCFM | {key: value}}
        for key, value in {
            "initial_steps": 13,
            "batch_size": 17,
            "lr": 2e-3,
            "clip": 1.0,
            "ema": 0.8,
            "width": 64,
            "depth": 2,
            "sigma": 0.1,
            "ot_batch": 8,
        }.items()
    ),
]


def test_what_trains_p_0_changes_its_fingerprint(make_config):
    found = {str(change): _fingerprint(make_config, change) for change in [{}, *DETERMINING]}
    assert len(set(found.values())) == len(found)


def test_steps_count_where_they_set_those_of_p_0(make_config):
    implicit = {key: value for key, value in OTCFM.items() if key != "initial_steps"}
    six = _fingerprint(make_config, {"learner": implicit | {"steps": 6}})
    assert six != _fingerprint(make_config, {"learner": implicit | {"steps": 7}})
    assert six == _fingerprint(make_config, {"learner": OTCFM | {"initial_steps": 12}})


def test_the_kind_of_device_counts_but_not_its_number(make_config):
    config = make_config()
    assert initial_key(config, "cuda:0") == initial_key(config, "cuda:1")
    assert initial_key(config, "cuda") != initial_key(config, "cpu")


def test_a_files_content_counts_and_its_place_does_not(make_config, tmp_path):
    found = []
    for name, offset in (("a.npz", 0), ("b.npz", 0), ("c.npz", 1)):
        np.savez(tmp_path / name, x=np.arange(20.0).reshape(10, 2) + offset)
        data = {"name": "npz", "path": str(tmp_path / name)}
        found.append(_fingerprint(make_config, {"data": data}))
    assert found[0] == found[1] != found[2]


def test_the_source_of_custom_code_counts(make_config, write_module):
    source = "class Thing:\n    pass\n"
    modules = [write_module(source), write_module(source + "# changed\n")]
    for part in ("data", "learner"):
        before, after = (
            _fingerprint(make_config, {part: {"name": f"{module}:Thing"}}) for module in modules
        )
        args = {part: {"name": f"{modules[0]}:Thing", "args": {"a": 1}}}
        assert len({before, after, _fingerprint(make_config, args)}) == 3


# --- files


def test_a_failing_save_leaves_the_folder_as_it_was(tmp_path):
    path = tmp_path / "file.pt"
    save_atomically({"x": torch.ones(3)}, path)
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"x": lambda: None}, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.pt"]
    assert torch.load(path, weights_only=True)["x"].tolist() == [1.0, 1.0, 1.0]


def test_a_save_replaces_the_whole_file(tmp_path):
    path = tmp_path / "file.pt"
    for count in (1000, 2):
        save_atomically({"x": torch.ones(count)}, path)
    assert torch.load(path, weights_only=True)["x"].tolist() == [1.0, 1.0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.pt"]


def test_a_failing_training_leaves_no_model_and_no_lock(tmp_path):
    def fail(rows: list[int], _: Progress) -> Fitted:
        raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        InitialModels(tmp_path).get("key", [1], fail)
    assert not list(tmp_path.glob("*.pt"))
    assert _get(tmp_path, [1])[1] == [1]


# --- long trainings


class Killed(Exception):
    """Stands in for the end of a process."""


@dataclass
class Note:
    """A `Progress` that keeps every note, and ends the training after some."""

    ends_after: int = 10**9
    kept: dict[str, Any] | None = None
    notes: int = 0

    def load(self) -> dict[str, Any] | None:
        return self.kept

    def save(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(snapshot()), buffer)
        buffer.seek(0)
        self.kept, self.notes = torch.load(buffer, weights_only=True), self.notes + 1
        if self.notes == self.ends_after:
            raise Killed


IMAGES: dict[str, Any] = {
    "unet": {
        "channels": 32,
        "multipliers": [1],
        "blocks": 1,
        "attention": [],
        "head_channels": 32,
        "dropout": 0.2,
    }
}


@pytest.mark.parametrize("learner", ["otcfm", "ddpm"])
@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)], ids=["vectors", "images"])
def test_an_interrupted_training_of_p_0_goes_on_to_the_same_bits(monkeypatch, learner, shape):
    monkeypatch.setattr("luceloop.core.learners.regression.regression.SEGMENT", 3)
    keys = {"name": learner, "steps": 1, "initial_steps": 8, "batch_size": 4, "ema": 0.5}
    keys |= {"warmup": 5, "clip": 1.0, "flip": len(shape) == 3, "width": 32} | IMAGES
    kind = LEARNERS.named(learner)
    assert kind is not None and issubclass(kind, LearnerConfig)
    config = kind.model_validate(keys)
    samples = torch.randn(1, 10, *shape, generator=rng.stream(0, "test"))
    training = TrainingSet(samples, torch.tensor([10]))

    def train(note: Note | None) -> Fitted:
        built = config.build(shape)
        assert isinstance(built, PatientLearner)
        return built.fit_initial(training, [3], note)

    whole = train(None)
    for interruption in (1, 2):
        note = Note(ends_after=interruption)
        with pytest.raises(Killed):
            train(note)
        assert note.kept is not None and note.kept["done"] == 3 * interruption
        note.ends_after = 10**9
        found = train(note)
        assert found.loss is not None and whole.loss is not None
        assert torch.equal(found.loss, whole.loss)
        assert note.notes == 3  # 3, 6 and 8 steps: none was done again
        _assert_same_leaves(found.state, whole.state)


def _assert_same_leaves(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, Mapping):
            _assert_same_leaves(found[key], value)
        else:
            assert torch.equal(found[key], value), key


def test_the_cache_keeps_how_far_a_training_is_until_it_ends(tmp_path):
    def interrupted(rows: list[int], progress: Progress) -> Fitted:
        assert isinstance(progress, ProgressFile)
        progress.every = 0.0
        progress.save(lambda: {"done": torch.tensor(7)})
        raise Killed

    with pytest.raises(Killed):
        InitialModels(tmp_path).get("key", [1], interrupted)
    assert len(list(tmp_path.glob("*.unfinished.pt"))) == 1

    def go_on(rows: list[int], progress: Progress) -> Fitted:
        assert progress.load() == {"done": torch.tensor(7)}
        return _model([1])

    InitialModels(tmp_path).get("key", [1], go_on)
    assert not list(tmp_path.glob("*.unfinished.pt"))


def test_notes_are_a_minute_apart(tmp_path, monkeypatch):
    def never() -> dict[str, Any]:
        raise AssertionError("too soon")

    now = 1000.0
    monkeypatch.setattr("luceloop.core.loop.initial.time.monotonic", lambda: now)
    progress = ProgressFile(tmp_path / "file.pt", every=60.0)
    now += 59
    progress.save(never)
    assert progress.load() is None
    now += 2
    progress.save(lambda: {"done": 7})
    assert progress.load() == {"done": 7}
    progress.save(never)
