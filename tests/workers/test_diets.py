"""Trials whose retrainings see all kept sets again: their checkpoints hold them."""

from __future__ import annotations

import pytest
import torch

from luceloop.core.config.point import PointConfig
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.state import LoopState
from luceloop.workers.arrays import to_numpy
from luceloop.workers.messages import Work
from luceloop.workers.point_run import checkpoint_name, read_checkpoint
from luceloop.workers.recorded import Recorded
from luceloop.workers.sampler import Sampler
from luceloop.workers.trial import Trial
from tests.workers.test_trial import POINT, curves, given, point_of, steps

LAST, KEPT = POINT["iterations"], POINT["data"]["size"]


def _point(synthetic: str, *assignments: str) -> PointConfig:
    return point_of(f"training.synthetic={synthetic}", "learner.name=gaussian", *assignments)


@pytest.mark.parametrize("synthetic", ["replace", "accumulate", "subsample"])
@pytest.mark.parametrize("real", ["fixed", "fresh"])
@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_trial_goes_on_to_the_same_bits(killed_after, real, synthetic, tmp_path):
    point = _point(synthetic, f"training.real={real}")
    undisturbed = curves(steps(Trial(given(tmp_path, point=point))))
    first = Trial(given(tmp_path, point=point))
    reports = steps(first, killed_after)
    first.save_checkpoint(str(tmp_path))
    second = Trial(given(tmp_path, point=point))
    second.load_checkpoint(str(tmp_path))
    assert curves(reports + steps(second)) == undisturbed


@pytest.mark.parametrize("synthetic", ["accumulate", "subsample"])
def test_seeds_on_record_go_on_beside_seeds_that_begin(synthetic, tmp_path):
    """As an extended sweep, or one that reuses another's rows, computes them."""
    point = _point(synthetic)
    undisturbed = steps(Trial(given(tmp_path, point=point)))
    short = _point(synthetic, "seeds=[6]", f"iterations={LAST - 1}")
    before = steps(Trial(given(tmp_path, point=short, states=str(tmp_path / "states"))))
    rows = tuple(dict(report.metrics) for report in before[:-1])
    recorded = (Recorded((6,), rows, str(tmp_path / "states" / "point-0004.pt")),)
    reports = steps(Trial(given(tmp_path, point=point, recorded=recorded)))
    assert [report.reused for report in reports] == [(6,), (6,), (), ()]
    assert curves(reports) == curves(undisturbed)


@pytest.mark.parametrize("synthetic", ["replace", "accumulate", "subsample"])
def test_a_checkpoint_stores_four_bytes_a_coordinate_of_every_kept_set(synthetic, tmp_path):
    trial = Trial(given(tmp_path, point=_point(synthetic)))
    for t in range(LAST):
        steps(trial, 1)
        trial.save_checkpoint(str(tmp_path))
        state = read_checkpoint(tmp_path, 4)["state"]
        sets = 1 if synthetic == "replace" else t + 1
        held = [state[name] for name in ("kept", "earlier") if state.get(name) is not None]
        assert all(part.dtype == torch.float32 for part in held)
        assert sum(part.numel() for part in held) == 2 * sets * KEPT * 2  # seeds, ..., coordinates
    steps(trial)
    trial.save_checkpoint(str(tmp_path))
    assert read_checkpoint(tmp_path, 4)["state"] is None  # nothing follows
    assert (tmp_path / checkpoint_name(4)).stat().st_size < 40_000


@pytest.mark.parametrize("synthetic", ["accumulate", "subsample"])
def test_an_actor_trains_a_row_from_the_state_that_it_is_sent(synthetic):
    point = _point(synthetic)
    *_, result = list(Loop(point).run())[:-1]
    expected = Loop(point).fitter.fit(result.state)
    for row in range(2):
        sent = to_numpy(result.state.row(row).plain())
        fitted = Sampler(1).fit(Work(point), row, sent)
        assert torch.equal(fitted.state["mean"][0], expected.state["mean"][row])
    assert LoopState.of(result.state.plain()).earlier is result.state.earlier
