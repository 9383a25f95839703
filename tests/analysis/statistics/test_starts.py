"""What is said of the p_0 that a sweep begins with."""

from __future__ import annotations

import pytest

from luceloop.analysis.statistics.starts import describe_starts

FAIR = {"width_ratio": [1.1, 1.2], "precision": [0.9, 0.94], "recall": [0.97, 0.97]}


def test_the_distances_stand_as_means_over_seeds():
    [line] = describe_starts([FAIR | {"frechet_distance": [0.1, 0.3], "loss": [1.0, 1.0]}])
    listed = "width_ratio 1.15, frechet_distance 0.2, precision 0.92, recall 0.97"
    assert line == f"p_0: {listed} (mean over seeds)"


def test_points_that_share_a_start_share_a_line():
    other = FAIR | {"width_ratio": [1.0, 1.0]}
    assert len(describe_starts([FAIR, FAIR, other, FAIR])) == 2


UNFAIR = {
    "wide": ({"width_ratio": [1.2, 1.4]}, "1.30 times as wide"),
    "narrow": ({"width_ratio": [0.7, 0.7]}, "only 0.70 times"),
    "unreal": ({"precision": [0.4, 0.5]}, "among real ones"),
    "collapsed": ({"recall": [0.1, 0.2]}, "misses more than half"),
}


@pytest.mark.parametrize(("changes", "said"), UNFAIR.values(), ids=UNFAIR)
def test_an_unfair_start_is_warned_of(changes, said):
    _, warning = describe_starts([FAIR | changes])
    assert warning.startswith("p_0 is no fair start: ") and said in warning


def test_nothing_is_said_where_nothing_was_measured():
    assert describe_starts([{"reward_mean": [1.0]}]) == []
