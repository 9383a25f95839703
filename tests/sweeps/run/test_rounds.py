"""Seeds until it is known: which points get further ones, and that rows are a fresh run's."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luceloop.analysis.reading import labels
from luceloop.analysis.reading.curves import load_table
from luceloop.analysis.reading.store import find_runs
from luceloop.analysis.statistics.looks import level_of, level_of_looks
from luceloop.core.config.parsing import parse_config
from luceloop.core.config.search import ObjectiveConfig
from luceloop.core.config.seed_rule import WidthGoal
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.record.table import recorded_table
from luceloop.sweeps.run.rounds import contenders, half_width
from luceloop.sweeps.tracking.delivery import build_tracker
from tests.processes import luceloop
from tests.support import QUICK, Cli, curves, latest, swept
from tests.sweeps.run.test_kills import Killer

LAST, WIDTH, MOST = 3, 0.3, 14
BASE = ["run", "mog", "learner={name: empirical}", "data.size=100", f"iterations={LAST}", QUICK]
BASE += ["search.beta.grid=[1,10]", "search.lam.grid=[1,inf]"]
RULE = f"seeds={{start: 4, until: {{metric: reward_mean, half_width: {WIDTH}}}, most: {MOST}}}"
COUNTS = [4, 6, 9, 14]


@pytest.fixture(scope="module")
def narrow(local_ray, tmp_path_factory) -> Path:
    """A sweep whose points get seeds until their intervals are narrow."""
    return swept(tmp_path_factory.mktemp("narrow"), *BASE, RULE)


@pytest.fixture(scope="module")
def fresh(local_ray, tmp_path_factory) -> Path:
    """The same points, all with the most seeds."""
    return swept(tmp_path_factory.mktemp("fresh"), *BASE, f"seeds={MOST}")


def points_of(output: Path) -> list[Point]:
    return list(Ledger(latest(output).ledger, writable=False).points.values())


def seeds_of(output: Path) -> dict[int, int]:
    found = curves(output).groupby("point")["seed"].nunique()
    return {int(str(point)): int(count) for point, count in found.items()}


def test_seeds_are_added_until_intervals_are_narrow(narrow):
    config, counts = latest(narrow).config(), seeds_of(narrow)
    rule = config.seed_rule
    assert rule is not None and isinstance(rule.until, WidthGoal)
    assert set(counts.values()) <= set(COUNTS)
    assert len(set(counts.values())) > 1  # points need different numbers
    for point in points_of(narrow):
        found = half_width(rule.until, point, level_of(rule))
        assert found <= WIDTH or counts[point.index] == MOST
        if counts[point.index] > 4:
            before = COUNTS[COUNTS.index(counts[point.index]) - 1]
            less = Point(point.index, point.values, supremum=point.supremum)
            less.rows[LAST] = {name: v[:before] for name, v in point.rows[LAST].items()}
            assert half_width(rule.until, less, level_of(rule)) > WIDTH  # not one too many


def test_rows_are_those_of_a_run_with_as_many_seeds(narrow, fresh):
    ours, theirs = curves(narrow), curves(fresh)
    ours = ours[ours["seed"].notna()]
    both = ours.drop(columns="value").merge(theirs, how="left")
    pd.testing.assert_frame_equal(both[ours.columns], ours.reset_index(drop=True))
    for point, count in seeds_of(narrow).items():
        for t in range(LAST + 1):
            files = [latest(folder).preview(point, t) for folder in (narrow, fresh)]
            if t == 0:
                files += [latest(folder).initial_reward(point) for folder in (narrow, fresh)]
            for one, other in zip(files[::2], files[1::2], strict=True):
                with np.load(one) as found, np.load(other) as expected:
                    for name in expected.files:
                        assert len(found[name]) == count
                        np.testing.assert_array_equal(found[name], expected[name][:count])


def test_mlflow_has_one_run_for_each_point_over_all_its_seeds(narrow):
    output, folder = Output(narrow), latest(narrow)
    pd.testing.assert_frame_equal(
        load_table(output.tracking_uri, folder.id), recorded_table(folder), check_exact=True
    )
    runs = find_runs(output.tracking_uri, folder.id)
    expected = recorded_table(folder)
    for index, count in seeds_of(narrow).items():
        run = runs.points[index]
        assert run.data.params[labels.SEEDS] == str(count) and run.info.status == "FINISHED"
        children = [s for s in runs.seeds if s.data.tags[labels.PARENT] == run.info.run_id]
        assert len(children) == count
        assert {s.info.status for s in children} == {"FINISHED"}
        history = runs.client.get_metric_history(run.info.run_id, "reward_mean.ci_low")
        mine = expected[(expected["point"] == index) & (expected["metric"] == "reward_mean.ci_low")]
        assert [(m.step, m.value) for m in history] == list(
            zip(mine["iteration"], mine["value"], strict=True)
        )
        files = runs.client.list_artifacts(run.info.run_id, labels.SAMPLES)
        assert len(files) == LAST + 1


def test_a_sweep_that_knows_enough_is_not_run_again(narrow, cli: Cli):
    before = curves(narrow)
    ran = cli("resume", "latest", QUICK, "--output", str(narrow))
    assert ran.code == 0, ran.out + ran.err
    pd.testing.assert_frame_equal(curves(narrow), before, check_exact=True)


def test_claims_end_the_adding_once_they_are_decided(output, cli: Cli):
    claim = "{says: Taste drives the reward up., point: {beta: 10}, above: {point: {beta: 1}}}"
    rule = "seeds={start: 3, until: claims, most: 40}"
    ran = cli(*BASE, rule, f"claims=[{claim}]", "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    assert "enough is known (claims)" in ran.out and "holds: " in ran.out
    assert max(seeds_of(output).values()) < 40
    where = ["--output", str(output)]
    [listed] = json.loads(cli("list", "--json", *where).out)
    assert listed["claims"] == {"holds": 1} and "1 hold" in cli("list", *where).out


def test_a_race_goes_on_with_the_best_points_alone(output, cli: Cli):
    rule = "seeds={start: 4, until: best, most: 9}"
    ran = cli(*BASE, rule, "search.beta.grid=[1,9,10]", "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    counts = seeds_of(output)
    found = {(p.values["curation.beta"], str(p.values["lam"])): p.index for p in points_of(output)}
    assert {counts[found[beta, "1"]] for beta in (1, 9, 10)} == {4}  # real data hold them back
    assert counts[found[9, "inf"]] == counts[found[10, "inf"]] == 9  # too close to tell apart


def test_an_extension_takes_all_batches(narrow, fresh, tmp_path, cli: Cli):
    output = shutil.copytree(narrow, tmp_path / "copy")
    ran = cli("extend", "latest", f"seeds={MOST}", QUICK, "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    taken = sum(seeds_of(narrow).values()) * (LAST + 1)
    assert f"{taken} of {4 * MOST * (LAST + 1)} rows are on record and taken" in ran.out
    pd.testing.assert_frame_equal(curves(output), curves(fresh), check_exact=True)


@pytest.mark.slow
def test_packed_points_get_the_same_seeds(narrow, output, cli: Cli):
    ran = cli(*BASE, RULE, "resources.pack=4", "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    pd.testing.assert_frame_equal(curves(output), curves(narrow), check_exact=True)


@pytest.mark.slow
def test_a_search_suggests_what_it_would_without_further_seeds(output, cli: Cli):
    search = ["search.sampler=tpe", "search.trials=8", "search.lam.uniform=[0.1,3]"]
    search += ["search.beta.uniform=[0,10]", "--output", str(output)]
    values = []
    for rule in ("seeds=4", "seeds={start: 4, until: best, most: 6}"):
        ran = cli(*BASE[:-2], rule, *search)
        assert ran.code == 0, ran.out + ran.err
        values.append([point.values for point in points_of(output)])
    assert values[0] == values[1]
    assert set(seeds_of(output).values()) == {4, 6}


class LateKiller(Killer):
    """Kills a trial once some seeds have been added."""

    def run(self) -> None:
        while not (_sweeps(self._output) and any(p.batch_rows for p in points_of(self._output))):
            time.sleep(0.02)
        super().run()


def _sweeps(output: Path) -> bool:
    return (output / "sweeps").exists() and bool(Output(output).sweeps())


@pytest.mark.slow
def test_a_killed_trial_changes_no_seed(narrow, output, cli: Cli):
    killer = LateKiller(output, "ray::ResourceTrainable")
    killer.start()
    ran = cli(*BASE, RULE, "--output", str(output))
    killer.join(10)
    assert killer.killed and ran.code == 0, ran.out + ran.err
    pd.testing.assert_frame_equal(curves(output), curves(narrow), check_exact=True)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 5])
def test_a_killed_driver_changes_no_seed(batches, narrow, output, cli: Cli):
    driver = luceloop(output, *BASE, RULE)
    while not _sweeps(output) or sum(len(p.batches) for p in points_of(output)) < batches:
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.01)
    driver.kill()
    driver.communicate()
    ran = cli("resume", "latest", QUICK, "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    pd.testing.assert_frame_equal(curves(output), curves(narrow), check_exact=True)
    pd.testing.assert_frame_equal(
        load_table(Output(output).tracking_uri, latest(output).id),
        recorded_table(latest(output)),
        check_exact=True,
    )


def made_up(index: int, values: list[float]) -> Point:
    return Point(index, {}, {0: {"reward_mean": values}})


def test_who_is_surely_behind_is_no_contender():
    wanted, random = ObjectiveConfig(), np.random.default_rng(0)
    noise = random.standard_normal(6)
    points = [
        made_up(0, list(noise)),
        made_up(1, list(noise - 1 + 0.01 * random.standard_normal(6))),  # paired: surely behind
        made_up(2, list(random.standard_normal(6) - 0.1)),
    ]
    assert contenders(wanted, points, 0.98) == [0, 2] or contenders(wanted, points, 0.98) == [2, 0]
    lowest = ObjectiveConfig(mode="min")
    assert contenders(lowest, points[:2], 0.98) == []  # only the lowest one is left


def test_a_race_drops_the_best_point_at_most_5_percent_of_the_time():
    """The worst case: all points are equal, so that dropping any is wrong for one that is best."""
    wanted, random, wrong, races = ObjectiveConfig(), np.random.default_rng(1), 0, 400
    counts = (4, 6, 9)
    level = level_of_looks(counts)
    for _ in range(races):
        values = random.standard_normal((3, counts[-1]))
        values[0] += 1e-9  # this one is best
        left = [0, 1, 2]
        for count in counts:
            points = [made_up(i, list(values[i, :count])) for i in left]
            left = contenders(wanted, points, level) or [
                max(left, key=lambda i: values[i, :count].mean())
            ]
            if 0 not in left:
                wrong += 1
                break
            if len(left) == 1:
                break
    assert wrong / races <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / races)


def test_a_batch_counts_when_it_is_whole(tmp_path):
    file = tmp_path / "ledger.jsonl"
    ledger = Ledger(file)
    ledger.begin_point(0, {})
    for t in range(2):
        ledger.add_iteration(0, t, {"reward_mean": [0.0 + t, 1.0 + t]})
    ledger.end_point(0, "done")
    ledger.grow({0: [2, 3]})
    assert ledger.points[0].status is None and ledger.points[0].reported == -1
    assert ledger.add_iteration(0, 0, {"reward_mean": [2.0, 3.0]})
    assert not ledger.add_iteration(0, 0, {"reward_mean": [2.0, 3.0]})
    assert ledger.points[0].rows[0] == {"reward_mean": [0.0, 1.0]}
    ledger.add_iteration(0, 1, {"reward_mean": [3.0, 4.0]})
    ledger.end_point(0, "done")
    ledger.close()
    for read in (ledger, Ledger(file, writable=False)):
        point = read.points[0]
        assert point.rows[1] == {"reward_mean": [1.0, 2.0, 3.0, 4.0]}
        assert point.added == (2, 3) and not point.batch


def test_a_batch_that_runs_changes_no_curve_of_its_point(tmp_path):
    """Else its few seeds would stand for all of them until the batch is whole."""
    config = parse_config(
        {"name": "x", "data": {"name": "eight_gaussians"}, "iterations": 1}
        | {"seeds": {"start": 3, "until": {"half_width": 1}, "most": 9}}
    )
    output = Output(tmp_path)
    folder = output.create_sweep(config, "why")
    ledger = Ledger(folder.ledger)
    ledger.begin_point(0, {})
    for t in range(2):
        ledger.add_iteration(0, t, {"reward_mean": [0.0, 1.0, 2.0 + t]})
    ledger.end_point(0, "done")
    ledger.grow({0: [3, 4]})
    ledger.add_iteration(0, 0, {"reward_mean": [50.0, 60.0]})
    ledger.end_point(0, "failed", "training loss is NaN")
    tracker = build_tracker(output, folder, ledger)
    for _ in range(9):
        assert tracker.try_deliver(len(ledger.events)), tracker.error
    runs = find_runs(output.tracking_uri, folder.id)
    history = runs.client.get_metric_history(runs.points[0].info.run_id, "reward_mean.mean")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 4 / 3)]
    assert runs.points[0].info.status == "FAILED" and len(runs.seeds) == 5


@pytest.mark.parametrize(
    ("goal", "key"),
    [
        ("{metric: kept_reward_mean, at: 3, half_width: 1}", "seeds.until.at=3"),
        ("{metric: margin/theorem_2_3, at: 0, half_width: 1}", "seeds.until.at=0"),
        ("{metric: reward_men, half_width: 1}", "seeds.until.metric='reward_men'"),
        ("{at: 4, half_width: 1}", "seeds.until.at=4"),
    ],
)
def test_a_width_that_no_point_can_have_is_refused_before_anything_runs(goal, key, cli: Cli):
    ran = cli("validate", "mog", "lam=1", "iterations=3", f"seeds={{until: {goal}, most: 9}}")
    assert ran.code == 2 and ran.err.count("\n") == 1 and key in ran.err, ran.err


def test_a_batch_that_fails_leaves_the_seeds_before_it(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.begin_point(0, {})
    ledger.add_iteration(0, 0, {"reward_mean": [0.0, 1.0]})
    ledger.end_point(0, "done")
    ledger.grow({0: [2]})
    ledger.end_point(0, "failed", "training loss is NaN")
    point = ledger.points[0]
    assert point.rows[0] == {"reward_mean": [0.0, 1.0]}
    assert point.status == "failed" and point.batch == (2,) and point.added == ()
