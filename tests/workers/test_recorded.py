"""Points of which some seeds are on record elsewhere: only the others are computed."""

from __future__ import annotations

from pathlib import Path

from luceloop.workers.recorded import Recorded
from luceloop.workers.trial import Trial
from tests.workers.test_trial import curves, given, point_of, steps

LAST = 3


def _rows(tmp_path: Path, seed: int, count: int) -> tuple[dict[str, list[float]], ...]:
    reports = steps(
        Trial(given(tmp_path, point=point_of(f"seeds=[{seed}]", "iterations=9"))), count
    )
    return tuple(dict(report.metrics) for report in reports)


def test_states_that_are_gone_are_computed_anew(tmp_path: Path):
    fresh = steps(Trial(given(tmp_path)))
    recorded = (Recorded((6,), _rows(tmp_path, 6, 2), str(tmp_path / "gone.pt")),)
    reports = steps(Trial(given(tmp_path, recorded=recorded)))
    assert [report.reused for report in reports] == [(6,), (6,), (), ()]
    assert curves(reports) == curves(fresh)


def test_kept_states_go_on_beside_seeds_that_begin(tmp_path: Path):
    fresh = steps(Trial(given(tmp_path)))
    short = point_of("seeds=[6]", f"iterations={LAST - 1}")
    before = steps(Trial(given(tmp_path, point=short, states=str(tmp_path / "states"))))
    rows = tuple(dict(report.metrics) for report in before[:-1])  # the last is computed again
    recorded = (Recorded((6,), rows, str(tmp_path / "states" / "point-0004.pt")),)
    reports = steps(Trial(given(tmp_path, recorded=recorded)))
    assert [report.reused for report in reports] == [(6,), (6,), (), ()]
    assert curves(reports) == curves(fresh)


def test_what_is_wholly_on_record_is_only_reported(tmp_path: Path):
    fresh = steps(Trial(given(tmp_path)))
    recorded = (Recorded((5, 6), tuple(dict(report.metrics) for report in fresh)),)
    trial = Trial(given(tmp_path, recorded=recorded))
    reports = steps(trial)
    assert [report.reused for report in reports] == [(5, 6)] * (LAST + 1)
    assert curves(reports) == curves(fresh) and reports[-1].is_last
    assert all(run.loop is None for run in trial._runs)
