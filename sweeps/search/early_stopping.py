"""Early stopping: a point is compared with those before it alone, as suggestions are made.

So it does not depend on which trial was faster.
"""

from __future__ import annotations

import numpy as np

from luceloop.core.config.search import SearchConfig
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.search import objective
from luceloop.sweeps.search.space import learns_from


def falls_behind(search: SearchConfig, ledger: Ledger, point: Point, iteration: int) -> str:
    """Why a point should stop after `iteration`, by `search.early_stop`; empty if it should not.

    The quantile stopping rule (the median rule of Golovin et al. 2017 at 0.5) on the objective over
    seeds, against earlier points only, so that it does not depend on which trial was faster.
    """
    rule, first = search.early_stop, search.objective[0]
    if rule is None or iteration < rule.after or first.metric not in point.rows[iteration]:
        return ""
    sign = 1 if first.mode == "max" else -1
    rivals = [
        sign * objective.at_iteration(first, rival.rows[iteration], rival.supremum)
        for rival in (ledger.points[index] for index in learns_from(search, point.index))
        if first.metric in rival.rows.get(iteration, {})
    ]
    if len(rivals) < rule.min_trials:
        return ""
    value = objective.at_iteration(first, point.rows[iteration], point.supremum)
    bar = float(np.quantile(rivals, rule.quantile))
    if sign * value >= bar:
        return ""
    return (
        f"{first.metric} {value:.4g} at iteration {iteration} is behind {sign * bar:.4g}, "
        f"the {rule.quantile:g} quantile of {len(rivals)} earlier points"
    )
