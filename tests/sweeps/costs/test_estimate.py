"""Estimates: sizes are exact, times near what was taken, and nothing on record counts."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from luceloop.core.config.parsing import parse_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.learners.otcfm import OTCFMConfig
from luceloop.core.loop.loop import Loop, run_loop
from luceloop.sweeps.costs.disk import weights_size
from luceloop.sweeps.costs.estimate import STARTING, Work
from luceloop.sweeps.costs.measure import evaluations, measure
from luceloop.sweeps.costs.pace import Places, cost_key, makespan, recorded_paces
from luceloop.sweeps.costs.recorded import SECONDS, sweep_costs
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.run import foreseen
from luceloop.sweeps.run.foreseen import Foresight, foresee_here, nothing_known
from luceloop.sweeps.run.machines import room_anywhere
from luceloop.sweeps.run.needs import Needs, shapes_of
from luceloop.sweeps.run.reuse import Reuse
from luceloop.sweeps.run.summary import size_of
from luceloop.sweeps.search.space import check_space
from tests.support import SMALL, Cli, Finished

CPU = Places(trials=2, pack=1, device="cpu")


def _config(**more) -> SweepConfig:
    plain = {"name": "s", "data": {"name": "eight_gaussians", "size": 60}, "seeds": 2}
    return parse_config(plain | {"iterations": 3} | more)


def _loop(config: SweepConfig) -> Loop:
    return Loop(check_space(config)[0])


def _again(finished: Finished, *more: str) -> tuple[SweepConfig, Output]:
    """The configuration of the finished sweep with other keys, in its output folder."""
    given = ["iterations=3", "seeds=[7,8,9]", "curation.k=4", "search.lam.grid=[0.5,.inf]"]
    return read_config("mog", [*given, "search.beta.grid=[0,10]", *SMALL, *more]), Output(
        finished.output
    )


def test_sizes_are_exactly_what_goes_on_record(finished: Finished):
    output = Output(finished.output)
    folder = output.find("latest")
    ledger = Ledger(folder.ledger, writable=False)
    recorded = sweep_costs(folder.config(), ledger.points.values())
    assert recorded is not None
    own, found = recorded.computed, foresee_here(folder.config(), output).costs
    assert (found.rows, found.samples, found.choices) == (own.rows, own.samples, own.choices)
    assert found.comparisons == own.comparisons


def test_time_of_an_earlier_sweep_is_that_of_its_rows(finished: Finished):
    config, output = _again(finished, "search.beta.grid=[1,2,3]", "seeds=6")
    found = foresee_here(config, output)
    assert "rows of earlier sweeps" in found.basis
    points = Ledger(output.find("latest").ledger, writable=False).points.values()
    spent = [
        math.fsum(row[name][s] for name in row if name.startswith("seconds/"))
        for point in points
        for t, row in point.rows.items()
        for s in range(3)
        if t
    ]
    # 3·2 points of 6 seeds and 4 rows; p_0 of each seed is trained once, or found.
    rows = 6 * 6 * 4 * math.fsum(spent) / len(spent)
    assert rows / 2 < found.costs.device_seconds < 2 * rows
    assert found.seconds is not None and found.seconds > STARTING


def test_measured_time_is_within_a_factor_of_what_rows_take(finished: Finished):
    """Rows of a loop in this very process: those of a sweep shared their cores with others."""
    for point in check_space(_again(finished)[0])[:2]:
        result = measure(point, "cpu")
        assert result is not None
        spent = [
            float(each.metrics[name].mean())
            for each in itertools.islice(run_loop(point), 1, None)
            for name in each.metrics
            if name.startswith(SECONDS)
        ]
        ratio = (result[0].fit + result[0].pool) * point.iterations / math.fsum(spent)
        assert 1 / 8 < ratio < 8, ratio


def test_rows_on_record_are_left_out_under_reuse(finished: Finished):
    config, output = _again(finished, "seeds=[7,8,9,10]", "reuse=true")
    found, whole = foresee_here(config, output), foresee_here(_again(finished)[0], output)
    plan = Reuse(output.find("latest"), config, "cpu").plan(check_space(config))
    assert plan.reused == 0  # of itself nothing is taken
    assert found.taken == 4 * 3 * 4 and found.costs.rows == 4 * 4
    assert whole.taken == 0 and whole.costs.rows == 4 * 3 * 4
    assert found.costs.samples * 3 == whole.costs.samples


def test_disk_is_near_what_a_sweep_leaves(finished: Finished):
    config, output = _again(finished)
    found = foresee_here(config, output).disk
    left = size_of(output.path) - size_of(output.path / "cache")
    assert left / 2 < found.total - found.checkpoints < 2 * left
    folder = output.find("latest")
    assert size_of(folder.states) == pytest.approx(found.states, rel=0.25)
    assert found.initial == 0  # all are in the cache
    more = foresee_here(_again(finished, "seeds=[7,100]")[0], output).disk
    [cached] = {file.stat().st_size for file in (output.path / "cache").glob("p0-*-seed7.pt")}
    assert more.initial == pytest.approx(cached, rel=0.25)


def test_what_pickers_prefer_changes_no_time_and_what_is_computed_does():
    base = _config().point
    same: list[dict[str, Any]] = [
        {"curation": {"beta": 7}},
        {"seeds": 9},
        {"iterations": 9},
        {"lam": 1},
        {"reward": {"name": "mode_distance", "mode": 3}},
    ]
    others: list[dict[str, Any]] = [
        {"curation": {"k": 4}},
        {"pool_size": 500},
        {"learner": {"name": "otcfm", "steps": 7}},
        {"quality": {}},
        {"resources": {"threads": 2}},
    ]
    key = cost_key(base, "cpu")
    assert {cost_key(_config(**each).point, "cpu") for each in same} == {key}
    assert key not in {cost_key(_config(**each).point, "cpu") for each in others}
    assert len({cost_key(_config(**each).point, "cpu") for each in others}) == len(others)
    assert cost_key(base, "cuda") != key


def test_counts_of_a_part_and_of_what_is_known_add_up_to_the_whole():
    point = _config(curation={"k": 3}, lam=1).point
    whole, rest = Work(point, {}).counts(), Work(point, {0: 3, 1: 4}).counts()
    assert (whole.rows, whole.samples, whole.choices) == (8, 8 * 180, 6 * 60)
    assert (rest.rows, rest.samples, rest.choices, rest.comparisons) == (1, 180, 0, 0)
    infinite = _config(curation={"k": math.inf}).point
    assert Work(infinite, {}).counts().comparisons == math.inf
    assert Work(infinite, {0: 4, 1: 4}).counts().comparisons == 0


@pytest.mark.parametrize("places", [1, 2, 3, 50])
def test_the_end_of_all_trials_lies_between_its_bounds(places):
    durations = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    found = makespan(durations, places)
    least = max(max(durations), sum(durations) / places)
    assert least <= found < 2 * least + 1e-9  # Graham 1966
    assert makespan([], places) == 0


def test_p_0_is_counted_once_for_all_points_that_share_it(tmp_path):
    config = _config(search={"beta": {"grid": [0, 1]}, "lam": {"grid": [1, math.inf]}})
    output = Output(tmp_path)
    folder = Output(tmp_path).create_sweep(config, "why")
    foresight = Foresight(
        config, folder, output.cache, {"CPU": 2.0}, _loop(config), nothing_known, _needs(config)
    )
    disk = foresight.estimate(measured=False).disk
    assert disk.initial == 2 * weights_size(foresight.loop)[1]


def test_without_an_earlier_sweep_a_start_tells_sizes_and_no_time(tmp_path):
    config = _config()
    folder = Output(tmp_path).create_sweep(config, "why")
    found = Foresight(
        config, folder, folder.cache, {"CPU": 2.0}, _loop(config), nothing_known, _needs(config)
    )
    estimate = found.estimate(measured=False)
    assert estimate.seconds is None and estimate.costs.samples == 2 * 4 * 120
    assert estimate.plain()["device_seconds"] is None
    assert any("by the first iterations" in line for line in estimate.lines(str, str))


def test_searches_that_learn_have_exact_sizes_where_points_cost_the_same():
    search = {"beta": {"uniform": [0, 5]}, "sampler": "tpe", "trials": 7}
    work, bounded = _work(_config(search=search))
    assert len(work) == 7 and not bounded
    search = {"pool_size": {"integers": [120, 500]}, "sampler": "tpe", "trials": 7}
    work, bounded = _work(_config(search=search))
    assert bounded and {each.point.pool_size for each in work} == {500}
    early = {"beta": {"grid": [0, 5]}, "early_stop": {}}
    assert _work(_config(search=early))[1] == "points may stop early"


def _needs(config: SweepConfig) -> Needs:
    return Needs([config.point], shapes_of([config.point]), room_anywhere())


def _work(config: SweepConfig) -> tuple[list[Work], str]:
    nowhere, loop = Path("/nowhere"), _loop(config)
    folder = SweepFolder(nowhere)
    return Foresight(
        config, folder, nowhere, {"CPU": 2.0}, loop, nothing_known, _needs(config)
    ).work()


def test_a_large_network_is_measured_by_few_steps(monkeypatch):
    config = read_config("digits", ["learner.steps=500", "seeds=3"])
    result = measure(config.point, "cpu")
    assert result is not None
    pace, how = result
    assert "2 steps of 4 images" in how and "without scores" in how
    assert pace.fit > 0 and pace.pool > 0
    assert isinstance(config.point.learner, OTCFMConfig)
    assert evaluations(config.point.learner) == 8


def test_a_learner_of_the_users_own_is_not_measured(monkeypatch, mine):
    config = _config(learner={"name": "users_own:WhoTrains"})
    monkeypatch.syspath_prepend(str(mine))
    assert measure(config.point, "cpu") is None
    found, why = foreseen._measured({"key": config.point}, "cpu")
    assert found == {} and "own" in why


def test_a_normal_law_is_measured_as_any_learner_of_ours():
    found = measure(read_config("accumulate", ["seeds=2"]).point, "cpu")
    assert found is not None and found[0].pool > 0


def test_kept_sets_that_accumulate_take_as_many_times_the_disk():
    def states(synthetic: str) -> int:
        config = read_config("accumulate", [f"training.synthetic={synthetic}", "seeds=2"])
        return foresee_here(config, Output(Path("nowhere"))).disk.states

    iterations = read_config("accumulate", []).point.iterations
    assert states("accumulate") == iterations * states("replace") > 0


def test_sweeps_that_cannot_be_read_tell_nothing(tmp_path):
    folder = Output(tmp_path).create_sweep(_config(), "why")
    folder.ledger.write_text("no JSON\n")
    key = cost_key(_config().point, "cpu")
    assert recorded_paces([folder], [key], lambda config: CPU) == {}


def test_validate_prints_the_estimate(finished: Finished, cli: Cli):
    given = ["validate", "mog", "seeds=2", "iterations=1", *SMALL, "--output", str(finished.output)]
    told = json.loads(cli(*given, "--json").out)["estimate"]
    assert told["samples"] == 2 * 2 * 2 * 600 and told["comparisons"] == 2 * 2 * 300
    assert told["seconds"] > 0 and told["disk"]["total"] > 0 and told["trials_at_once"] >= 1
    assert "measured on" in told["basis"]  # K=2 has no earlier sweep here
    assert "4,800 samples" in cli(*given).out


def test_weights_are_counted_as_a_checkpoint_has_them():
    loop = Loop(_config(learner={"name": "otcfm", "ema": 0.9}).point)
    named = loop.learner.network.initialize([0], 0)  # type: ignore[attr-defined]
    count = sum(tensor.numel() for tensor in named.values())
    assert weights_size(loop) == (2 * 4 * count, 4 * 4 * count)
