"""Metrics of the user's own: what they are shown, what they may return, and where it goes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from luceloop.core.custom_metrics import check_metric
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.loop.loop import Loop, run_loop

SOURCE = """
import torch

def spread(samples, real):
    return samples.std() / real.std()

def several(power):
    def measure(samples, real):
        return {"mean": samples.mean() ** power, "seen": len(samples), "real": len(real)}
    return measure

def moody(samples, real):
    return {"a": 1.0} if samples.mean() > 0 else {"b": 1.0}

class Counting:
    def __init__(self, start):
        self.start = start

    def __call__(self, samples, real):
        return self.start + len(samples)

number = 3
"""


def test_a_metric_is_measured_on_each_seeds_pool_at_every_iteration(make_config, write_module):
    module = write_module(SOURCE)
    config = make_config(
        metrics={"spread": f"{module}:spread"}, iterations=2, sampling={"preview": 500}
    )
    loop = Loop(config)
    results = list(loop.run())
    real = loop.own_metrics._shown("spread")
    assert len(real) == 60
    for result in results:
        pool = int(loop.rows.pool[0])
        expected = [float(x[:pool].std() / real.std()) for x in result.preview]
        assert result.metrics["spread"].tolist() == pytest.approx(expected, rel=1e-6)


def test_several_numbers_stand_under_the_metrics_name(make_config, write_module):
    several = {"name": f"{write_module(SOURCE)}:several", "args": {"power": 2}, "samples": 30}
    *_, last = run_loop(make_config(metrics={"own": several}))
    assert {"own/mean", "own/seen", "own/real"} <= set(last.metrics)
    assert last.metrics["own/seen"].tolist() == last.metrics["own/real"].tolist() == [30, 30]


def test_a_metric_is_shown_no_more_than_there_is(make_config, write_module):
    seen = {"name": f"{write_module(SOURCE)}:Counting", "args": {"start": 0.5}}
    config = make_config(metrics={"n": seen}, pool_size=200)
    *_, last = run_loop(config)
    assert last.metrics["n"].tolist() == [200.5, 200.5]


def test_shards_change_nothing_that_a_metric_is_shown(make_config, write_module):
    metrics = {"spread": {"name": f"{write_module(SOURCE)}:spread", "samples": 75}}
    config = make_config(metrics=metrics, sampling={"shard_size": 20, "preview": 75})
    loop = Loop(config)
    first = next(loop.run())
    real = loop.own_metrics._shown("spread")
    expected = [float(x.std() / real.std()) for x in first.preview]
    assert first.metrics["spread"].tolist() == pytest.approx(expected, rel=1e-6)


def test_other_metrics_keep_their_bits(make_config, write_module):
    metrics = {"spread": f"{write_module(SOURCE)}:spread"}
    plain, with_own = list(run_loop(make_config())), list(run_loop(make_config(metrics=metrics)))
    for one, other in zip(plain, with_own, strict=True):
        for name in set(one.metrics) - {n for n in one.metrics if n.startswith("seconds/")}:
            assert torch.equal(one.metrics[name], other.metrics[name])


BROKEN = [
    (lambda samples, real: samples.mean(0), "shape (2,)"),
    (lambda samples, real: "large", "str"),
    (lambda samples, real: None, "NoneType"),
    (lambda samples, real: 1 + 2j, "complex"),
    (lambda samples, real: math.nan, "finite"),
    (lambda samples, real: torch.tensor(math.inf), "finite"),
    (lambda samples, real: {"a b": 1.0}, "'a b'"),
    (lambda samples, real: {3: 1.0}, "called 3"),
    (lambda samples, real: {"part": "x"}, "'part'"),
    (lambda samples, real: 1 / 0, "ZeroDivisionError"),
]


@pytest.mark.parametrize(("function", "said"), BROKEN)
def test_what_breaks_the_contract_is_one_line_that_names_the_metric(function, said):
    metric = check_metric("own", "mine:own", function)
    with pytest.raises(LoopError) as raised:
        metric(torch.randn(5, 2), torch.randn(5, 2))
    line = str(raised.value)
    assert line.startswith("metric own (mine:own) ") and said in line and "\n" not in line


def test_numbers_of_every_plain_kind_are_taken():
    for value in (2, 2.0, True + 1, np.float32(2), np.array(2), torch.tensor(2)):
        metric = check_metric("own", "mine:own", lambda samples, real, v=value: v)
        assert metric(torch.zeros(1, 2), torch.zeros(1, 2)) == {"own": 2.0}


def test_a_metric_may_work_in_place(make_config):
    samples, real = torch.ones(4, 2), torch.ones(4, 2)
    metric = check_metric("own", "mine:own", lambda x, y: float(x.mul_(2).sum() + y.mul_(3).sum()))
    metric(samples, real)
    assert samples.eq(1).all() and real.eq(1).all()


REFUSED = [
    ({"reward_mean": "mine:spread"}, "metrics.reward_mean"),
    ({"class_fraction": "mine:spread"}, "metrics.class_fraction"),
    ({"own": "mine:nothing"}, "metrics.own.name"),
    ({"own": "mine:number"}, "metrics.own.name"),
    ({"own": {"name": "mine:several", "args": {"pwer": 2}}}, None),
]


@pytest.mark.parametrize(("metrics", "key"), REFUSED, ids=str)
def test_a_metric_that_cannot_be_is_refused_before_anything_runs(
    make_config, write_module, metrics, key
):
    module = write_module(SOURCE)
    text = str(metrics).replace("mine:", f"{module}:")
    with pytest.raises(ConfigError) as raised:
        Loop(make_config(metrics=eval(text)))
    if key is not None:
        assert raised.value.key == key


@pytest.mark.parametrize(
    ("metrics", "key"),
    [
        ({"a b": "m:f"}, "metrics"),
        ({"own": "not a name"}, "metrics.own.name"),
        ({"own": {"name": "m:f", "sampels": 3}}, "metrics.own.sampels"),
        ({"own": {"name": "m:f", "samples": 0}}, "metrics.own.samples"),
        ({"own": 3}, "metrics.own"),
    ],
    ids=str,
)
def test_a_metric_that_is_written_wrongly_is_one_line_that_names_the_key(make_config, metrics, key):
    with pytest.raises(ConfigError) as raised:
        make_config(metrics=metrics)
    assert raised.value.key.startswith(key) and "\n" not in str(raised.value)


def test_a_metric_that_names_other_numbers_for_another_seed_fails_the_point(
    make_config, write_module
):
    config = make_config(metrics={"own": {"name": f"{write_module(SOURCE)}:moody", "samples": 1}})
    with pytest.raises(LoopError, match="for one seed and"):
        list(run_loop(config.model_copy(update={"seeds": tuple(range(12))})))
