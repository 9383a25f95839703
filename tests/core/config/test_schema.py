"""The JSON schema accepts what configurations may say, and marks what they may not."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from luceloop.core.config.parsing import parse_config, set_dotted
from luceloop.core.config.schema import config_schema
from luceloop.core.errors import ConfigError
from luceloop.sweeps.presets import preset_names, read_plain

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_fits(name, validator):
    validator.validate(read_plain(name))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_fits(path, validator):
    validator.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "seeds: 3",
        "seeds: [4, 5]",
        "seeds: {start: 3, until: claims, most: 9}",
        "search: {beta: {grid: [0, .inf]}, learner: {lr: {loguniform: [0.001, 0.1]}}}",
        "search: {objective: {metric: reward_mean}}",
        "search: {objective: [{metric: reward_mean}, {metric: class_entropy}]}",
        "search: {learner.lr: {grid: [0.1]}}",
        "reward: {mode: 2}",
    ],
)
def test_what_may_be_written_shorter_than_the_models_fits(text, validator):
    validator.validate(read_plain("mog") | yaml.safe_load(text))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("betta", 1),
        ("learner.stepz", 1),
        ("learner.steps", "many"),
        ("data.name", "eight_gausians"),
        ("curation.kk", 2),
        ("iterations", -1),
        ("search.sampler", "grit"),
        ("search.lam", {"gird": [1]}),
        ("quality.evry", 2),
        ("seeds", 0),
        ("budget.hour", 1),
        ("resources.pack", "many"),
    ],
)
def test_what_is_refused_is_marked(key, value, validator):
    plain = read_plain("mog")
    set_dotted(plain, key, value)
    with pytest.raises(ConfigError):
        parse_config(plain)
    assert not validator.is_valid(plain)
