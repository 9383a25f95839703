"""Self-consuming generative loops with curated data, run as distributed sweeps.

    import luceloop

    luceloop.forecast("mog", "search.beta.grid=[0,10]")  # a table: no training, no Ray
    results = luceloop.run("mog", "seeds=3")
    results = luceloop.extend("latest", "seeds=6")  # nothing is computed twice
    results = luceloop.load("latest")

What is named here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luceloop.core.config.parsing import parse_config
    from luceloop.core.config.point import PointConfig
    from luceloop.core.config.sweep import SweepConfig as Config
    from luceloop.core.custom_metrics import Metric
    from luceloop.core.data.base import Dataset
    from luceloop.core.errors import ConfigError, LoopError
    from luceloop.core.learners.base import Fitted, Learner, TrainingSet
    from luceloop.core.loop.loop import run_loop
    from luceloop.core.pickers.custom import Curation
    from luceloop.core.rewards.base import Reward
    from luceloop.sweeps.api import SweepHandle, extend, forecast, load, run

__all__ = [
    "Config",
    "ConfigError",
    "Curation",
    "Dataset",
    "Fitted",
    "Learner",
    "LoopError",
    "Metric",
    "PointConfig",
    "Reward",
    "SweepHandle",
    "TrainingSet",
    "__version__",
    "extend",
    "forecast",
    "load",
    "parse_config",
    "run",
    "run_loop",
]

NOT_INSTALLED = "0+unknown"
"""The version of a checkout that nobody has installed."""
_HOMES = {
    "Config": "luceloop.core.config.sweep:SweepConfig",
    "ConfigError": "luceloop.core.errors:ConfigError",
    "Curation": "luceloop.core.pickers.custom:Curation",
    "Dataset": "luceloop.core.data.base:Dataset",
    "Fitted": "luceloop.core.learners.base:Fitted",
    "Learner": "luceloop.core.learners.base:Learner",
    "LoopError": "luceloop.core.errors:LoopError",
    "Metric": "luceloop.core.custom_metrics:Metric",
    "PointConfig": "luceloop.core.config.point:PointConfig",
    "Reward": "luceloop.core.rewards.base:Reward",
    "SweepHandle": "luceloop.sweeps.api:SweepHandle",
    "TrainingSet": "luceloop.core.learners.base:TrainingSet",
    "extend": "luceloop.sweeps.api:extend",
    "forecast": "luceloop.sweeps.api:forecast",
    "load": "luceloop.sweeps.api:load",
    "parse_config": "luceloop.core.config.parsing:parse_config",
    "run": "luceloop.sweeps.api:run",
    "run_loop": "luceloop.core.loop.loop:run_loop",
}
"""Where each name lives."""


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name == "__version__":
        try:
            value: Any = version("luceloop")
        except PackageNotFoundError:
            value = NOT_INSTALLED
    elif name in _HOMES:
        module, _, attribute = _HOMES[name].partition(":")
        value = getattr(importlib.import_module(module), attribute)
    else:
        raise AttributeError(f"module 'luceloop' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, and what else a module has."""
    return sorted({*globals(), *__all__})
