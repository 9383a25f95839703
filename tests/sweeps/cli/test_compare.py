"""`luceloop compare` on a real sweep: its numbers against SciPy, its files, and what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from luceloop.analysis.statistics.pairs import COLUMNS
from luceloop.sweeps.api import load
from tests.support import ALONE, QUICK, Cli, Finished

CONTRACT = COLUMNS[:13]
"""The columns that scripts rely on; more may follow."""


@pytest.fixture
def where(finished: Finished) -> list[str]:
    return ["--output", str(finished.output)]


@pytest.fixture
def curves(finished: Finished) -> pd.DataFrame:
    """Rows of seeds at the last iteration of the metrics that are compared."""
    table = pd.read_csv(finished.table)
    return table[table["seed"].notna() & (table["iteration"] == table["iteration"].max())]


def _values(curves: pd.DataFrame, metric: str, **point: float) -> np.ndarray:
    chosen = curves[curves["metric"] == metric]
    for key, value in point.items():
        chosen = chosen[chosen[key] == value]
    return chosen.sort_values("seed")["value"].to_numpy()


def test_all_pairs_are_compared_by_seed(cli: Cli, where, curves, tmp_path):
    file = tmp_path / "pairs.csv"
    ran = cli("compare", "latest", "-o", str(file), *where)
    assert ran.code == 0, ran.err
    table = pd.read_csv(file)
    assert list(table.columns)[:13] == CONTRACT == [
        "a", "b", "metric", "at", "paired", "difference", "ci_low", "ci_high", "p", "p_holm",
        "correlation", "seeds", "seeds_needed",
    ]  # fmt: skip
    assert len(table) == 4 * 3 / 2 and table["paired"].all() and (table["seeds"] == 3).all()
    row = table[(table["a"] == "β=10 λ=0.5 K=4") & (table["b"] == "β=0 λ=0.5 K=4")].iloc[0]
    a, b = (_values(curves, "reward_mean", beta=beta, lam=0.5) for beta in (10, 0))
    test = stats.ttest_rel(a, b)
    assert row["difference"] == pytest.approx((a - b).mean(), rel=1e-9)
    assert row["p"] == pytest.approx(test.pvalue, rel=1e-6)
    low, high = test.confidence_interval(0.95)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), rel=1e-9)
    assert "adjusted by Holm for 6 comparisons" in ran.out and "seeds are paired" in ran.out


def test_points_are_compared_with_those_of_a_value(cli: Cli, where, curves):
    ran = cli("compare", "latest", "--point", "beta=0", "--point", "lam=inf", "--json", *where)
    rows = json.loads(ran.out)
    assert {row["b"] for row in rows} == {"β=0 λ=inf K=4"} and len(rows) == 3
    ran = cli(
        "compare", "latest", "--point", "beta=0", "--metric", "class_entropy", "--json", *where
    )
    rows = json.loads(ran.out)
    assert len(rows) == 2 * 2 and {row["metric"] for row in rows} == {"class_entropy"}
    [row] = [r for r in rows if r["a"] == "β=10 λ=inf K=4" and r["b"] == "β=0 λ=0.5 K=4"]
    a = _values(curves, "class_entropy", beta=10, lam=math.inf)
    b = _values(curves, "class_entropy", beta=0, lam=0.5)
    assert row["difference"] == pytest.approx((a - b).mean(), rel=1e-9)


def test_the_first_iteration_of_points_that_share_p_0_is_no_difference(cli: Cli, where):
    rows = json.loads(cli("compare", "latest", "--at", "0", "--json", *where).out)
    same = [row for row in rows if row["a"].split()[1] == row["b"].split()[1]]  # the pool's size
    assert len(same) == 2 and all(row["difference"] == 0 and row["p"] == 1 for row in same)
    shown = cli("compare", "latest", "--at", "0", *where)
    assert shown.code == 0 and "undecided: no" in shown.out  # the table wraps
    best = json.loads(cli("compare", "latest", "--at", "best", "--json", *where).out)
    assert all(row["at"] for row in best)


def test_a_table_for_papers_has_a_row_a_pair(cli: Cli, where):
    lines = cli("compare", "latest", "--latex", *where).out.splitlines()
    assert lines[1] == r"\begin{tabular}{llrrrr}" and lines[-1] == r"\end{tabular}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 1 + 6 and all(row.count("&") == 5 for row in rows)
    assert rows[1].startswith(r"$\beta$=0 $\lambda$=$\infty$ K=4 & $\beta$=0 $\lambda$=0.5 K=4 & $")


REFUSED = [
    (["--metric", "rewrd"], "--metric='rewrd': must be one of "),
    (["--at", "soon"], "--at='soon': must be last, best, or"),
    (["--at", "99"], "--at=99: must be last, best, or at most 3"),
    (["--point", "beta"], "--point='beta': must read key=value"),
    (["--point", "seeds=3"], "--point='seeds=3': must read key=value, of keys"),
    (["--point", "beta=3"], "--point='beta=3': fits no point"),
    (["--point", "lam=["], "--point='lam=[': is not a YAML value"),
    (["--json", "--latex"], "--latex=True: "),
    (["-o", "x.txt"], "-o='x.txt': must end in"),
    (["latest", "latest"], "SWEEP='latest': must be one sweep or two"),
]


@pytest.mark.parametrize(("arguments", "line"), REFUSED, ids=str)
def test_what_cannot_be_compared_is_one_line(cli: Cli, where, arguments, line):
    ran = cli("compare", "latest", *arguments, *where)
    assert ran.code == 2 and ran.err.startswith(line) and ran.err.count("\n") == 1


def test_two_sweeps_are_compared_point_by_point(local_ray, cli: Cli, output):
    small = ["learner={name: empirical}", "data.size=100", "iterations=1", ALONE, QUICK]
    grid = ["search.beta.grid=[0,10]", "search.lam.grid=[1]"]
    to = ["--output", str(output)]
    for name, seeds in (("one", "[1,2,3]"), ("other", "[2,3,4]"), ("new", "[7,8,9]")):
        assert cli("run", "mog", f"name={name}", f"seeds={seeds}", *grid, *small, *to).code == 0
    rows = json.loads(cli("compare", "one", "other", "--json", *to).out)
    assert [row["a"] for row in rows] == [row["b"] for row in rows] and len(rows) == 2
    # Two seeds in common, which gave the same numbers.
    assert all(r["paired"] and r["seeds"] == 2 and r["difference"] == 0 for r in rows)
    ran = cli("compare", "one", "new", *to)
    assert "seeds: [1, 2, 3] against [7, 8, 9]" in ran.out and "Welch's test" in ran.out
    table = load("one", output=output).compare(load("new", output=output))
    assert not table["paired"].any() and table["correlation"].isna().all()
    within = load("one", output=output).compare(point={"beta": 0})
    assert within["b"].tolist() == ["β=0 λ=1 K=2"]
