"""What points cost, by their rows and configuration: against counts by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

import luceloop
from luceloop.core.config.parsing import parse_config
from luceloop.core.loop.loop import run_loop
from luceloop.sweeps.costs.recorded import PointCosts, Pricing, sweep_costs
from luceloop.sweeps.costs.sizes import row_counts
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.ledger import Ledger, Point
from tests.support import Cli, Finished


def _config(**more):
    plain = {"name": "s", "data": {"name": "eight_gaussians", "size": 30}, "seeds": 2}
    return parse_config(plain | {"learner": {"name": "empirical"}, "iterations": 3} | more)


def costs_of(point: Point) -> PointCosts:
    """What is on record of a point that has ended."""
    assert point.costs is not None
    return PointCosts.of(point.costs)


@pytest.mark.parametrize(
    ("more", "pool", "choices", "comparisons"),
    [
        ({"lam": 1, "curation": {"k": 2}}, 60, 30, 30),
        ({"lam": 0.5, "curation": {"k": 4}}, 60, 15, 45),
        ({"lam": math.inf, "kept_size": 7, "curation": {"k": 3}}, 21, 7, 14),
        ({"lam": math.inf, "kept_size": 7, "curation": {"k": 3}, "pool_size": 100}, 100, 7, 14),
        ({"lam": 0, "curation": {"k": 2}}, 30, 0, 0),
        ({"lam": 0, "curation": {"k": math.inf}}, 30, 0, 0),
        ({"lam": 1, "curation": {"k": 1}}, 30, 30, 0),
        ({"lam": 1, "curation": {"k": math.inf}}, 120, 30, math.inf),
    ],
)
def test_counts_are_those_of_algorithm_1(more, pool, choices, comparisons):
    point = _config(**more).point
    for t in range(3):
        counts = row_counts(point, t)
        assert (counts.samples, counts.choices, counts.comparisons) == (pool, choices, comparisons)
    last = row_counts(point, 3)  # which nothing is retrained on
    assert (last.samples, last.choices, last.comparisons) == (pool, 0, 0)


@pytest.mark.parametrize("lam", [0, 0.5, math.inf])
def test_counts_are_what_a_loop_generates_and_keeps(lam):
    point = _config(lam=lam, curation={"k": 3}).point
    for result in run_loop(point):
        counts = row_counts(point, result.iteration)
        assert result.reward is None or result.reward.shape[1] == counts.samples
        kept = result.state.kept
        assert (0 if kept is None else kept.shape[1]) == counts.choices


def test_rows_taken_from_other_sweeps_are_told_apart(tmp_path):
    config = _config(curation={"k": 3}, search={"lam": {"grid": [1, 0]}})
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.price = Pricing(config).plain
    for index, lam in enumerate([1, 0]):
        ledger.begin_point(index, {"lam": lam})
        for t in range(4):
            row = {"seconds/fit": [1.0, 2.0], "seconds/score": [0.5, 0.25], "loss": [9.0, 9.0]}
            ledger.add_iteration(index, t, row, reused=[1] if t < 2 else [])
        ledger.end_point(index, "done")
    first, second = (costs_of(ledger.points[i]) for i in (0, 1))
    own, taken = first.computed, first.taken
    assert (own.rows, taken.rows) == (6, 2)
    assert own.device_seconds == 4 * 1.5 + 2 * 2.25 and taken.device_seconds == 2 * 2.25
    assert (own.samples, taken.samples) == (6 * 90, 2 * 90)
    assert (own.choices, own.comparisons) == (4 * 30, 4 * 60)  # of t < 3
    assert (taken.choices, taken.comparisons) == (2 * 30, 2 * 60)
    assert (second.computed.samples, second.computed.choices) == (6 * 30, 0)
    again = Ledger(tmp_path / "ledger.jsonl", writable=False)  # as on record
    assert {i: p.costs for i, p in again.points.items()} == {
        i: p.costs for i, p in ledger.points.items()
    }
    assert sweep_costs(config, again.points.values()) == first + second


def test_infinite_comparisons_survive_the_record(tmp_path):
    config = _config(curation={"k": math.inf})
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.price = Pricing(config).plain
    ledger.begin_point(0, {})
    ledger.add_iteration(0, 0, {"seconds/fit": [1.0, math.nan]})
    ledger.end_point(0, "failed", "why")
    found = costs_of(Ledger(tmp_path / "ledger.jsonl", writable=False).points[0]).computed
    assert found.comparisons == math.inf and found.choices == 60
    assert found.device_seconds == 1.0


def test_costs_of_data_that_is_gone_are_unknown(tmp_path):
    config = _config(data={"name": "npz", "path": str(tmp_path / "gone.npz")})
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.begin_point(0, {})
    ledger.add_iteration(0, 0, {"seconds/fit": [1.0, 1.0]})
    assert sweep_costs(config, ledger.points.values()) is None
    assert Pricing(config).try_costs(ledger.points[0]) is None


def test_a_finished_sweep_tells_its_costs_everywhere(finished: Finished, cli: Cli, tmp_path: Path):
    output = Path(shutil.copytree(finished.output, tmp_path / "copied"))
    where = ["--output", str(output)]
    folder = Output(output).find("latest")
    points = Ledger(folder.ledger, writable=False).points
    # K=4: λ=0.5 keeps 150 of 600 samples, λ=inf 300 of 1200; three seeds, T=3.
    expected = {0.5: (3 * 4 * 600, 3 * 3 * 150), math.inf: (3 * 4 * 1200, 3 * 3 * 300)}
    for point in points.values():
        own = costs_of(point).computed
        assert (own.samples, own.choices) == expected[point.values["lam"]]
        assert own.comparisons == 3 * own.choices and own.rows == 12
        stages = [n for n in point.rows[0] if n.startswith("seconds/")]
        spent = math.fsum(v for row in point.rows.values() for n in stages for v in row[n])
        assert own.device_seconds == pytest.approx(spent)
    total = sum(expected[p.values["lam"]][0] for p in points.values())
    [listed] = json.loads(cli("list", "--json", *where).out)
    assert listed["costs"]["computed"]["samples"] == total
    shown = json.loads(cli("show", "latest", "--json", *where).out)
    assert [p["costs"] for p in shown["points"]] == [p.costs for p in points.values()]
    assert f"{total:,}" in cli("show", "latest", *where).out
    table = luceloop.load(folder.id, output=output).points
    assert table["samples"].sum() == total and not table["rows_taken"].any()
    assert list(table["comparisons"]) == [3 * choices for choices in table["choices"]]
    client = MlflowClient(finished.store)
    [experiment] = [e for e in client.search_experiments() if "/" in e.name]
    kind = "tags.`luceloop.kind` = 'point'"
    for run in client.search_runs([experiment.experiment_id], kind):
        own = costs_of(points[int(run.data.tags["luceloop.point"])]).computed
        assert float(run.data.tags["luceloop.samples"]) == own.samples
        assert float(run.data.tags["luceloop.comparisons"]) == own.comparisons
        assert float(run.data.tags["luceloop.device_seconds"]) == pytest.approx(own.device_seconds)
