"""The study on disk has every point once, as optuna-dashboard shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from optuna_dashboard import wsgi

from luceloop.core.config.parsing import parse_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.search.journal import StudyJournal

SEARCH: dict[str, Any] = {
    "lam": {"choice": [1, float("inf")]},
    "beta": {"loguniform": [0.1, 10]},
    "learner.steps": {"integers": [10, 20]},
    "reward": {"choice": [{"name": "mode_distance", "mode": 1}, {"name": "mode_distance"}]},
    "sampler": "random",
    "trials": 4,
}
POINTS: list[dict[str, Any]] = [
    {
        "lam": [1, float("inf")][index % 2],
        "curation.beta": 2.0 + index,
        "learner.steps": 10 + index,
        "reward": {"name": "mode_distance"},
    }
    for index in range(4)
]


@pytest.fixture
def config() -> SweepConfig:
    plain = {"name": "found", "data": {"name": "eight_gaussians"}, "iterations": 2, "seeds": 2}
    return parse_config(plain | {"search": SEARCH})


def _record(ledger: Ledger, index: int, status: str) -> None:
    ledger.begin_point(index, POINTS[index], 0.0)
    for iteration in range(3):
        rewards = [-3.0 + iteration + index, -2.0 + iteration + index]
        ledger.add_iteration(index, iteration, {"reward_mean": rewards})
    ledger.end_point(index, status)  # type: ignore[arg-type]


def _study(file: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(file)))
    return optuna.load_study(study_name="found/id-1", storage=storage)


def test_points_are_trials_with_values_curves_and_reasons(config, tmp_path):
    ledger, file = Ledger(tmp_path / "ledger.jsonl"), tmp_path / "study.journal"
    journal = StudyJournal(file, "id-1", config)
    ledger.begin_point(0, POINTS[0], 0.0)
    journal.update(ledger)
    assert not file.exists()  # nothing has ended
    for index, status in enumerate(("done", "stopped", "failed", "done")):
        _record(ledger, index, status)
        journal.update(ledger)
    study = _study(file)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    trials = study.trials
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]
    assert [trial.state for trial in trials] == states
    assert [trial.user_attrs["point"] for trial in trials] == [0, 1, 2, 3]
    assert trials[0].value == -0.5 and trials[3].value == 2.5  # means at the last iteration
    assert trials[0].intermediate_values == {0: -2.5, 1: -1.5, 2: -0.5}
    assert trials[3].params["lam"] == float("inf") and trials[3].params["curation.beta"] == 5.0
    assert json.loads(trials[3].params["reward"]) == {"name": "mode_distance"}


def test_a_resumed_sweep_adds_what_is_new(config, tmp_path):
    ledger, file = Ledger(tmp_path / "ledger.jsonl"), tmp_path / "study.journal"
    _record(ledger, 0, "done")
    StudyJournal(file, "id-1", config).update(ledger)
    _record(ledger, 1, "done")
    for _ in range(2):
        StudyJournal(file, "id-1", config).update(ledger)
    assert [trial.user_attrs["point"] for trial in _study(file).trials] == [0, 1]


def test_several_objectives_are_several_values(tmp_path):
    objective = [{"metric": "reward_mean"}, {"metric": "loss", "mode": "min"}]
    search = {"lam": {"grid": [1]}, "objective": objective}
    plain = {"name": "found", "data": {"name": "eight_gaussians"}, "seeds": 2, "search": search}
    config, ledger = parse_config(plain), Ledger(tmp_path / "ledger.jsonl")
    ledger.begin_point(0, {"lam": 1}, 0.0)
    ledger.add_iteration(0, 0, {"reward_mean": [-2.0, -1.0], "loss": [1.0, 3.0]})
    ledger.end_point(0, "done")
    file = tmp_path / "study.journal"
    StudyJournal(file, "id-1", config).update(ledger)
    [trial] = _study(file).trials
    assert trial.values == [-1.5, 2.0]
    assert _study(file).metric_names == ["reward_mean", "loss"]


def test_the_dashboard_lists_it(config, tmp_path):
    ledger, file = Ledger(tmp_path / "ledger.jsonl"), tmp_path / "study.journal"
    _record(ledger, 0, "done")
    StudyJournal(file, "id-1", config).update(ledger)
    serve: Any = wsgi(JournalStorage(JournalFileBackend(str(file))))
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "wsgi.input": None}
    statuses: list[str] = []
    body = b"".join(serve(asked, lambda status, headers, *_: statuses.append(status)))
    assert statuses == ["200 OK"]
    assert [study["study_name"] for study in json.loads(body)["study_summaries"]] == ["found/id-1"]


def test_without_a_search_there_is_no_study(tmp_path):
    config = parse_config({"name": "alone", "data": {"name": "eight_gaussians"}})
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.begin_point(0, {}, 0.0)
    ledger.end_point(0, "done")
    StudyJournal(tmp_path / "study.journal", "id-1", config).update(ledger)
    assert not (tmp_path / "study.journal").exists()


def test_a_torn_last_line_costs_that_line_alone(config, tmp_path):
    """A process may be killed while it writes; the next one goes on."""
    ledger, file = Ledger(tmp_path / "ledger.jsonl"), tmp_path / "study.journal"
    _record(ledger, 0, "done")
    StudyJournal(file, "id-1", config).update(ledger)
    with file.open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    _record(ledger, 1, "done")
    StudyJournal(file, "id-1", config).update(ledger)
    assert [trial.user_attrs["point"] for trial in _study(file).trials] == [0, 1]


def test_a_journal_that_cannot_be_written_ends_no_sweep(config, tmp_path, caplog):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    _record(ledger, 0, "done")
    journal = StudyJournal(tmp_path / "missing" / "study.journal", "id-1", config)
    for _ in range(2):
        journal.update(ledger)
    assert caplog.text.count("is not kept up any more") == 1
