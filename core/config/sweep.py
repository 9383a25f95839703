"""The configuration of a sweep: its name, its point, and what is searched about that point."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, SecretStr, field_validator, model_validator

from luceloop.core.config.budget import BudgetConfig
from luceloop.core.config.claims import ClaimConfig
from luceloop.core.config.point import PointConfig
from luceloop.core.config.search import SearchConfig
from luceloop.core.config.seed_rule import SeedRule
from luceloop.core.config.webhooks import read_address
from luceloop.core.errors import ConfigError
from luceloop.core.fields import Strict


class SweepConfig(Strict):
    """A sweep. In its YAML file the keys of the point stand beside its own."""

    name: str = Field(min_length=1, max_length=100)
    """What the sweep is called in lists and in MLflow."""
    description: str = ""
    """One sentence for those lists."""
    point: PointConfig
    """What every point has, but for the keys that are searched."""
    search: SearchConfig = SearchConfig()
    seed_rule: SeedRule | None = None
    """When points get further seeds, where `seeds` is a mapping that says so."""
    claims: tuple[ClaimConfig, ...] = ()
    """What it is run to find out."""
    reuse: bool = False
    """Whether rows that other sweeps have on record are taken instead of computed."""
    extends: str = ""
    """Id of the sweep that this one extends, whose rows are then taken, too."""
    notify: SecretStr | None = Field(None, exclude=True, repr=False)
    """URL that is told when it ends, when a point fails and when a claim is decided."""
    budget: BudgetConfig | None = None
    """What it may take before it stops in order; no limits if not given."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """Sort the keys of a file: what is not the sweep's own is the point's."""
        if not isinstance(given, Mapping) or isinstance(given.get("point"), PointConfig):
            return given
        own = {key: value for key, value in given.items() if key in OWN_KEYS}
        point = {key: given[key] for key in given if key not in OWN_KEYS}
        rule = point.get("seeds")
        if isinstance(rule, Mapping):
            own["seed_rule"] = rule
            del point["seeds"]
            start = rule.get("start")
            if isinstance(start, int) and start > 0:
                point["seeds"] = start
        return own | {"point": point}

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[\w][\w .-]*", name):
            raise ValueError("may hold letters, digits, spaces, and _ . - after the first")
        return name

    @field_validator("notify")
    @classmethod
    def _address(cls, given: SecretStr | None) -> SecretStr | None:
        return None if given is None else SecretStr(read_address(given.get_secret_value()))

    @model_validator(mode="after")
    def _decidable(self) -> SweepConfig:
        until = None if self.seed_rule is None else self.seed_rule.until
        if until == "claims" and not self.claims:
            raise ConfigError("seeds.until", until, "needs claims, and there are none")
        if until == "best" and (self.point_count < 2 or len(self.search.objective) > 1):
            raise ConfigError("seeds.until", until, "needs several points and one objective")
        return self

    @property
    def point_count(self) -> int:
        """Points of the sweep."""
        lengths = [len(dimension.values or []) for dimension in self.search.space.values()]
        return self.search.trials or math.prod(lengths)


OWN_KEYS = ("name", "description", "search", "claims", "reuse", "extends", "notify", "budget")
"""Keys of a file that are no part of a point."""
