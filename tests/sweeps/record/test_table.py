"""The table that is made of the ledger is the one that MLflow has."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from luceloop.analysis.reading.curves import load_table
from luceloop.core.config.parsing import parse_config
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.table import recorded_table
from tests.support import Finished


def test_it_equals_what_mlflow_has(finished: Finished):
    folder = Output(finished.output).find("latest")
    theirs = load_table(finished.store, folder.id)
    pd.testing.assert_frame_equal(recorded_table(folder), theirs, check_exact=True)
    assert len(theirs) > 1000


@pytest.fixture
def folder(output):
    search = {
        "lam": {"grid": [1, float("inf")]},
        "k": {"grid": [2, float("inf")]},
        "learner.carry_optimizer": {"grid": [True, False]},
        "learner.init": {"grid": ["warm"]},
    }
    plain = {"name": "made", "data": {"name": "eight_gaussians"}, "seeds": [7, 3], "search": search}
    return Output(output).create_sweep(parse_config(plain), "a test")


def test_searched_keys_of_every_kind_have_columns(folder):
    ledger = Ledger(folder.ledger)
    for index, lam in enumerate((1.0, float("inf"))):
        values: dict[str, Any] = {"lam": lam, "curation.k": [2, float("inf")][index]}
        values |= {"learner.carry_optimizer": index == 1, "learner.init": "warm"}
        ledger.begin_point(index, values, 0.0)
        ledger.add_iteration(index, 0, {"reward_mean": [-3.0, -1.0]})
    table = recorded_table(folder)
    assert list(table.columns)[:7] == [
        "sweep", "point", "beta", "lam", "k", "learner.carry_optimizer", "learner.init",
    ]  # fmt: skip
    seeds = table[table["seed"].notna()]
    assert seeds["seed"].tolist() == [3, 7, 3, 7] and seeds["value"].tolist() == [-1, -3, -1, -3]
    assert seeds["k"].tolist() == [2, 2, float("inf"), float("inf")]
    assert seeds["learner.carry_optimizer"].tolist() == [False, False, True, True]
    means = table[table["metric"] == "reward_mean.mean"]
    assert means["value"].tolist() == [-2, -2]
    assert (table[table["metric"] == "reward_mean.ci_high"]["value"] <= 0).all()  # r* is 0


def test_a_sweep_without_rows_has_an_empty_table(folder):
    Ledger(folder.ledger)
    assert recorded_table(folder).empty
