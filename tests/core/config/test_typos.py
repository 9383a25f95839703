"""A key with a slip of the finger in it, wherever it stands, is named with what is meant."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import BaseModel

from luceloop.core.classifier.kinds import CLASSIFIERS
from luceloop.core.config.budget import BudgetConfig
from luceloop.core.config.claims import ClaimConfig, Target
from luceloop.core.config.parsing import parse_config, set_dotted
from luceloop.core.config.parts import (
    ActorResources,
    CurationConfig,
    QualityConfig,
    ResourcesConfig,
    SamplingConfig,
    TrainingConfig,
)
from luceloop.core.config.point import PointConfig
from luceloop.core.config.search import Dimension, EarlyStopConfig, ObjectiveConfig, SearchConfig
from luceloop.core.config.seed_rule import SeedRule, WidthGoal
from luceloop.core.config.sweep import OWN_KEYS
from luceloop.core.config.users import UserConfig
from luceloop.core.custom_metrics import CustomMetricConfig
from luceloop.core.data.kinds import DATASETS
from luceloop.core.errors import ConfigError
from luceloop.core.kinds import Kinds
from luceloop.core.learners.kinds import LEARNERS
from luceloop.core.learners.networks.unet import UNetConfig
from luceloop.core.rewards.kinds import REWARDS
from luceloop.sweeps.search.space import check_space

PLACES: list[tuple[str, type[BaseModel], dict[str, Any]]] = [
    # a place, what stands there, and what else must
    ("", PointConfig, {}),
    ("curation", CurationConfig, {}),
    ("curation.users.0", UserConfig, {"curation": {"users": [{}, {}]}}),
    ("training", TrainingConfig, {}),
    ("sampling", SamplingConfig, {}),
    ("quality", QualityConfig, {}),
    ("resources", ResourcesConfig, {}),
    ("resources.trial", ActorResources, {}),
    ("learner.unet", UNetConfig, {"learner": {"name": "otcfm"}}),
    ("metrics.mine", CustomMetricConfig, {"metrics": {"mine": {"name": "mine:metric"}}}),
    ("budget", BudgetConfig, {}),
    ("seeds", SeedRule, {"seeds": {"until": "best", "most": 9}}),
    ("seeds.until", WidthGoal, {"seeds": {"until": {"half_width": 1}, "most": 9}}),
    ("search", SearchConfig, {}),
    ("search.lam", Dimension, {"search": {"lam": {"grid": [1, 2]}}}),
    ("search.objective.0", ObjectiveConfig, {"search": {"objective": [{"mode": "max"}]}}),
    ("search.early_stop", EarlyStopConfig, {}),
    ("claims.0", ClaimConfig, {"claims": [{"says": "x", "above": 1}]}),
    ("claims.0.above", Target, {"claims": [{"says": "x", "above": {"at": 0}}]}),
]
KINDS: list[tuple[str, Kinds]] = [
    ("data", DATASETS),
    ("learner", LEARNERS),
    ("classifier", CLASSIFIERS),
    ("reward", REWARDS),
    ("curation.users.1.reward", REWARDS),
]
for part, kinds in KINDS:
    for name in (*kinds.names, "mine:own"):
        model = kinds.named("custom" if ":" in name else name)
        if model is not None:
            there: dict[str, Any] = {"curation": {"users": [{}, {}]}} if "users" in part else {}
            set_dotted(there, f"{part}.name", name)
            PLACES.append((part, model, there))

SLIPS = [
    (place, key, there)
    for place, model, there in PLACES
    for key in ([*OWN_KEYS, *model.model_fields] if model is PointConfig else model.model_fields)
    if len(key) > 3 and key != "space"  # which is written otherwise
]


@pytest.mark.parametrize(
    ("place", "key", "there"),
    SLIPS,
    ids=[f"{place}.{key}-{i}" for i, (place, key, _) in enumerate(SLIPS)],
)
def test_a_mistyped_key_is_named_with_the_one_that_is_meant(place, key, there):
    plain: dict[str, Any] = {"name": "test", "data": {"name": "two_moons"}}
    plain |= copy.deepcopy(there)
    slip = key[:-2] + key[-1]
    full = f"{place}.{slip}".lstrip(".")
    set_dotted(plain, full, 1)
    with pytest.raises(ConfigError) as error:
        parse_config(plain)
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert f"did you mean {key}" in line
    assert line.startswith(f"{full}=") or key == "name"


@pytest.mark.parametrize("slip", ["betta", "bta"])
def test_a_mistyped_short_key_is_named_with_the_whole_one(slip):
    for place in (slip, f"search.{slip}.grid"):
        plain: dict[str, Any] = {"name": "test", "data": {"name": "two_moons"}}
        set_dotted(plain, place, [1])
        with pytest.raises(ConfigError, match=r"did you mean curation\.beta\?$"):
            check_space(parse_config(plain))
