"""Searches: what is suggested is a function of the configuration, not of timing."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from luceloop.core.config.parsing import parse_config, parse_point
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.search.space import check_space, learns_from
from luceloop.sweeps.search.tune import EarlyStop, PointSearcher
from luceloop.workers.messages import (
    IterationReport,
    PointSetup,
    TrialSetup,
    pack_reports,
    unpack_setup,
)

SPACE = {"beta": {"uniform": [0, 10]}, "lam": {"choice": [0.5, math.inf]}}


def config(**search: Any) -> SweepConfig:
    return parse_config(
        {"name": "s", "data": {"name": "eight_gaussians"}, "iterations": 3, "search": search}
    )


POINT = parse_point({"data": {"name": "eight_gaussians"}})


def assigned(points: Sequence[Point]) -> TrialSetup:
    return TrialSetup(tuple(PointSetup(point.index, POINT) for point in points), cache="")


def suggested_index(searcher: PointSearcher) -> int:
    """The point that comes next; there must be one."""
    suggested = searcher.suggest("")
    assert isinstance(suggested, dict)
    [point] = unpack_setup(suggested).points
    return point.index


def length(point: Point) -> int:
    return 3


def reward(values: dict[str, Any], iteration: int) -> float:
    """A smooth stand-in for a loop: best at β=4, improving with t."""
    return -((values["curation.beta"] - 4) ** 2) - 2.0 ** (-iteration)


def play(search: SweepConfig, path, order: random.Random, stop_after: int | None = None) -> Ledger:
    """Run a search with trials of random speed, as Tune would; perhaps cut off in the middle."""
    ledger = Ledger(path)
    searcher = PointSearcher(search.search, ledger, assigned, length)
    stopper = EarlyStop(search.search, ledger)
    running: list[int] = []
    finished = False
    for step in itertools.count():
        if stop_after is not None and step >= stop_after:
            ledger.close()
            return ledger
        while not finished and len(running) < 6:
            suggested = searcher.suggest("")
            if suggested is None:
                break
            if suggested == "FINISHED":
                finished = True
            else:
                assert isinstance(suggested, dict)
                running += [point.index for point in unpack_setup(suggested).points]
        if not running:
            assert finished
            ledger.close()
            return ledger
        advance(ledger, stopper, running, order.choice(running))
    raise AssertionError


def advance(ledger: Ledger, stopper: EarlyStop, running: list[int], index: int) -> None:
    """One more iteration of a trial, recorded as the runner records it."""
    point = ledger.points[index]
    iteration = point.last + 1
    values = [reward(point.values, iteration) + 0.1 * seed for seed in range(3)]
    report = IterationReport(index, iteration, {"reward_mean": values})
    decision = stopper.on_trial_result(None, None, pack_reports([report], done=iteration == 3))
    ledger.add_iteration(index, iteration, {"reward_mean": values})
    if decision == "STOP":
        ledger.end_point(index, "stopped", stopper.reasons[index])
    elif iteration == 3:
        ledger.end_point(index, "done")
    if point.status:
        running.remove(index)


def table(ledger: Ledger) -> dict[int, tuple]:
    return {
        index: (tuple(point.values.items()), tuple(point.rows), point.status)
        for index, point in sorted(ledger.points.items())
    }


SEARCHES = [
    {"sampler": "random", "trials": 9},
    {"sampler": "qmc", "trials": 9},
    {"sampler": "tpe", "trials": 18, "concurrency": 3},
    {"sampler": "gp", "trials": 13, "concurrency": 2},
    {"sampler": "tpe", "trials": 18, "early_stop": {"after": 1, "min_trials": 3}},
    {
        "sampler": "tpe",
        "trials": 14,
        "objective": [{"metric": "reward_mean"}, {"metric": "reward_mean", "mode": "min"}],
    },
]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: "-".join(map(str, s)) + s["sampler"])
def test_no_timing_and_no_interruption_changes_a_search(search, tmp_path):
    wanted = config(**SPACE, **search)
    undisturbed = play(wanted, tmp_path / "a", random.Random(0))
    assert len(undisturbed.points) == search["trials"]
    other_timing = play(wanted, tmp_path / "b", random.Random(1))
    assert table(other_timing) == table(undisturbed)
    for attempt in range(5):  # cut off and resumed, again and again
        play(wanted, tmp_path / "c", random.Random(attempt), stop_after=5 + 3 * attempt)
    resumed = play(wanted, tmp_path / "c", random.Random(9))
    assert table(resumed) == table(undisturbed)


def test_tpe_learns_where_the_objective_is_high(tmp_path):
    wanted = config(beta={"uniform": [0, 100]}, sampler="tpe", trials=40)
    played = play(wanted, tmp_path / "ledger", random.Random(0))
    distance = [abs(p.values["curation.beta"] - 4) for _, p in sorted(played.points.items())]
    # Uniform draws on [0, 100] are 45 from 4 on average, with a mean of ten within 20 of that.
    assert sum(distance[30:]) / 10 < 15 < sum(distance[:10]) / 10


def test_points_that_fall_behind_are_stopped_and_good_ones_are_not(tmp_path):
    stop = {"after": 1, "min_trials": 4, "quantile": 0.5}
    wanted = config(beta={"uniform": [0, 10]}, sampler="random", trials=40, early_stop=stop)
    ledger = play(wanted, tmp_path / "ledger", random.Random(0))
    stopped = {i for i, p in ledger.points.items() if p.status == "stopped"}
    assert stopped and all(ledger.points[i].last >= 1 for i in stopped)
    best = max(ledger.points, key=lambda i: reward(ledger.points[i].values, 3))
    assert best not in stopped
    for index in stopped:  # each was below the median of the earlier points it was compared with
        earlier = [
            reward(ledger.points[i].values, ledger.points[index].last)
            for i in learns_from(wanted.search, index)
            if ledger.points[i].last >= ledger.points[index].last
        ]
        value = reward(ledger.points[index].values, ledger.points[index].last)
        assert sum(value < other for other in earlier) >= len(earlier) / 2


def test_a_grid_is_every_combination_in_order(tmp_path):
    wanted = config(beta={"grid": [0, 10]}, lam={"grid": [1, math.inf]}, k={"grid": [2, 4]})
    ledger = Ledger(tmp_path / "ledger")
    searcher = PointSearcher(wanted.search, ledger, assigned, length)
    assert [suggested_index(searcher) for _ in range(8)] == list(range(8))
    assert searcher.suggest("") == "FINISHED"
    values = [tuple(ledger.points[i].values.values()) for i in range(8)]
    assert values == list(itertools.product([0, 10], [1, math.inf], [2, 4]))


def test_no_search_is_a_single_point():
    assert len(check_space(config())) == 1


def test_invalid_values_anywhere_in_the_space_are_refused():
    for space in ({"lam": {"grid": [1, -1]}}, {"k": {"choice": [2, 0]}, "trials": 2}):
        sampler = {"sampler": "random"} if "trials" in space else {}
        with pytest.raises(ConfigError):
            check_space(config(**space, **sampler))
    with pytest.raises(ConfigError, match=r"lr.*greater than 0"):
        check_space(config(**{"learner.lr": {"uniform": [-1, 1]}}, sampler="tpe", trials=3))


def test_failed_points_do_not_stop_a_search(tmp_path):
    wanted = config(**SPACE, sampler="tpe", trials=6, concurrency=1)
    ledger = Ledger(tmp_path / "ledger")
    searcher = PointSearcher(wanted.search, ledger, assigned, length)
    for index in range(6):
        assert suggested_index(searcher) == index
        assert index == 5 or searcher.suggest("") is None  # waits for the point before
        ledger.end_point(index, "failed", "NaN")
    assert searcher.suggest("") == "FINISHED"


def test_an_interrupted_point_that_was_about_to_be_stopped_is_stopped(tmp_path):
    """The driver died between recording the row and stopping the trial."""
    stop = {"after": 0, "min_trials": 1, "quantile": 0.5}
    wanted = config(beta={"uniform": [0, 10]}, sampler="random", trials=2, concurrency=1,
                    early_stop=stop)  # fmt: skip
    ledger = Ledger(tmp_path / "ledger")
    searcher = PointSearcher(wanted.search, ledger, assigned, length)
    searcher.suggest("")
    ledger.add_iteration(0, 0, {"reward_mean": [5.0]})
    ledger.end_point(0, "done")
    searcher.suggest("")
    ledger.add_iteration(1, 0, {"reward_mean": [1.0]})
    ledger.close()
    reopened = Ledger(tmp_path / "ledger")
    assert PointSearcher(wanted.search, reopened, assigned, length).suggest("") == "FINISHED"
    assert isinstance(reopened.points[1], Point) and reopened.points[1].status == "stopped"


def test_a_point_whose_end_was_not_recorded_is_done_not_stopped_and_not_run_again(tmp_path):
    """The driver died between a point's last row and the record of its end."""
    stop = {"after": 0, "min_trials": 1, "quantile": 0.5}
    wanted = config(beta={"uniform": [0, 10]}, sampler="random", trials=2, concurrency=1,
                    early_stop=stop)  # fmt: skip
    ledger = Ledger(tmp_path / "ledger")
    searcher = PointSearcher(wanted.search, ledger, assigned, length)
    for index, value in ((0, 5.0), (1, 1.0)):
        searcher.suggest("")
        for iteration in range(4):
            ledger.add_iteration(index, iteration, {"reward_mean": [value]})
        if index == 0:
            ledger.end_point(0, "done")
    again = PointSearcher(wanted.search, ledger, assigned, length)
    assert again.suggest("") == "FINISHED"
    assert ledger.points[1].status == "done"
