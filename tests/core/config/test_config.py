"""The configuration: what is accepted, what is refused and how that reads."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from luceloop.core.config.naming import point_name
from luceloop.core.config.parsing import at_point, override, parse_config, values_of
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.pool.rows import Rows, training_sizes


def _plain(**keys: Any) -> dict[str, Any]:
    return {"name": "test", "data": {"name": "eight_gaussians", "size": 100}} | keys


def _sweep(*assignments: str, **keys: Any) -> SweepConfig:
    return parse_config(override(_plain(**keys), list(assignments)))


def _parse(*assignments: str, **keys: Any) -> PointConfig:
    return _sweep(*assignments, **keys).point


def _refusal(*assignments: str, **keys: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        _parse(*assignments, **keys)
    assert "\n" not in str(error.value)
    return error.value


# --- what is refused


BAD_VALUES = [
    # assignment, offending key, value, a word of what is allowed
    ("beta=nan", "curation.beta", "nan", "-inf to inf"),
    ("beta=.nan", "curation.beta", math.nan, "-inf to inf"),
    ("beta=much", "curation.beta", "much", "number"),
    ("k=0", "curation.k", 0, "whole number from 1, or inf"),
    ("k=-2", "curation.k", -2, "whole number from 1, or inf"),
    ("k=2.5", "curation.k", 2.5, "whole number from 1, or inf"),
    ("k=nan", "curation.k", "nan", "whole number from 1, or inf"),
    ("k=.nan", "curation.k", math.nan, "whole number from 1, or inf"),
    ("k=two", "curation.k", "two", "whole number from 1, or inf"),
    ("k=true", "curation.k", True, "whole number from 1, or inf"),
    ("lam=-1", "lam", -1, "0"),
    ("lam=nan", "lam", "nan", "0"),
    ("lam=[1, 2]", "lam", [1, 2], "number"),
    ("iterations=-1", "iterations", -1, "0"),
    ("iterations=1.5", "iterations", 1.5, "integer"),
    ("seeds=0", "seeds", 0, "at least one"),
    ("seeds=-3", "seeds", -3, "at least one"),
    ("seeds=[]", "seeds", [], "at least one"),
    ("seeds=1.5", "seeds", 1.5, "at least one"),
    ("seeds=[1, 2, 1]", "seeds", [1, 2, 1], "repeat"),
    ("seeds=[0, -1]", "seeds.1", -1, "0"),
    ("seeds={start: 2, until: best, most: 9}", "seeds.start", 2, "3"),
    ("seeds={start: 5, until: best, most: 5}", "seeds.most", 5, "above start=5"),
    ("seeds={until: known, most: 9}", "seeds.until", "known", "claims, best"),
    ("seeds={until: {half_width: 0}, most: 9}", "seeds.until.half_width", 0, "0"),
    ("seeds={until: {}, most: 9}", "seeds.until.half_width", None, "required"),
    ("seeds={until: claims}", "seeds.most", None, "required"),
    ("seeds={until: best, most: 999, growth: 1.001}", "seeds.growth", 1.001, "100 looks"),
    ("notfy=https://example.com/secret", "notfy", "…", "did you mean notify"),
    ("seeds={until: claims, most: 9}", "seeds.until", "claims", "needs claims"),
    ("seeds={until: best, most: 9}", "seeds.until", "best", "several points"),
    ("real_size=0", "real_size", 0, "1"),
    ("data.size=0", "data.size", 0, "1"),
    ("data.std=0", "data.std", 0, "0"),
    ("learner.steps=2.5", "learner.steps", 2.5, "integer"),
    ("learner.lr=0", "learner.lr", 0, "0"),
    ("learner.lr=inf", "learner.lr", "inf", "finite"),
    ("learner.ema=1", "learner.ema", 1, "1"),
    ("learner.width=40", "learner.width", 40, "multiple of 32"),
    ("learner.nfe=6", "learner.nfe", 6, "multiple of 4"),
    ("learner.init=cold", "learner.init", "cold", "scratch"),
    ("reward.r_min=-1", "reward.r_min", -1, "0"),
    ("sampling.shard_size=0", "sampling.shard_size", 0, "1"),
    ("resources.trial.cpus=-1", "resources.trial.cpus", -1, "auto"),
    ("name=a/b", "name", "a/b", "letters"),
    ('name="a\\n"', "name", "a\n", "letters"),
    ("learner.width=999999968", "learner.width", 999999968, "16384"),
    ("learner.depth=1000000", "learner.depth", 1000000, "256"),
    ("learner.batch_size=999999999", "learner.batch_size", 999999999, "1000000"),
    ("learner.ot_batch=1000000", "learner.ot_batch", 1000000, "4096"),
    ("learner.unet.channels=1000000", "learner.unet.channels", 1000000, "4096"),
    ("sampling.preview=99999999999", "sampling.preview", 99999999999, "100000"),
    ("resources.threads=100000", "resources.threads", 100000, "1024"),
    ("search.seed=4294967296", "search.seed", 2**32, "4294967296"),
    ("search.seed=-1", "search.seed", -1, "0"),
    ("k=10000000000", "curation.k", 10**10, "10^9"),
    ('description="\\ud800"', "description", "\ud800", "surrogate"),
    ('data={name: npz, path: "a\\nb"}', "data.path", "a\nb", "control"),
]


@pytest.mark.parametrize(("assignment", "key", "value", "allowed"), BAD_VALUES)
def test_a_bad_value_is_named_with_its_key_and_what_is_allowed(assignment, key, value, allowed):
    error = _refusal(assignment)
    assert error.key == key
    assert repr(error.value) == repr(value)  # by text, as NaN equals nothing
    assert allowed in error.allowed
    assert str(error).startswith(f"{key}={value!r}: ")


TYPOS = [
    ({"iteration": 3}, "iteration", "iterations"),
    ({"curation": {"bta": 1}}, "curation.bta", "beta"),
    ({"data": {"name": "two_moons", "nose": 1}}, "data.nose", "noise"),
    ({"learner": {"stpes": 1}}, "learner.stpes", "steps"),
    ({"learner": {"name": "otcfm", "batchsize": 1}}, "learner.batchsize", "batch_size"),
    ({"reward": {"rmin": 1}}, "reward.rmin", "r_min"),
    ({"classifier": {"name": "small_cnn", "epoch": 1}}, "classifier.epoch", "epochs"),
    ({"sampling": {"shards_size": 1}}, "sampling.shards_size", "shard_size"),
    ({"resources": {"trial": {"cpu": 1}}}, "resources.trial.cpu", "cpus"),
    ({"seeds": {"until": "best", "most": 9, "strat": 5}}, "seeds.strat", "start"),
    (
        {"seeds": {"until": {"half_width": 1, "mertic": "x"}, "most": 9}},
        "seeds.until.mertic",
        "metric",
    ),
    ({"quality": {"sample": 5}}, "quality.sample", "samples"),
    ({"search": {"smapler": "tpe"}}, "search.smapler", "sampler"),
    ({"search": {"beta": {"gird": [1, 2]}}}, "search.beta.gird", "grid"),
    ({"search": {"objective": {"metrc": "x"}}}, "search.objective.0.metrc", "metric"),
    ({"search": {"early_stop": {"aftr": 1}}}, "search.early_stop.aftr", "after"),
]


@pytest.mark.parametrize(("keys", "key", "meant"), TYPOS, ids=[typo[1] for typo in TYPOS])
def test_an_unknown_key_is_refused_with_a_suggestion(keys, key, meant):
    error = _refusal(**keys)
    assert error.key == key
    assert f"did you mean {meant}?" in error.allowed


@pytest.mark.parametrize(
    ("keys", "key", "meant"),
    [
        ({"data": {"name": "eight_gausians"}}, "data.name", "eight_gaussians"),
        ({"learner": {"name": "otfcm"}}, "learner.name", "otcfm"),
        ({"reward": {"name": "mode_distnace"}}, "reward.name", "mode_distance"),
        ({"classifier": {"name": "smal_cnn"}}, "classifier.name", "small_cnn"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(keys, key, meant):
    error = _refusal(**keys)
    assert error.key == key
    assert f"did you mean {meant}?" in error.allowed


def test_a_part_without_its_name_is_refused_with_the_names_there_are():
    error = _refusal(classifier={"nme": "small_cnn"})
    assert (error.key, error.value) == ("classifier.name", None)
    assert "must be one of small_cnn" in error.allowed


@pytest.mark.parametrize("missing", ["name", "data"])
def test_a_missing_key_is_named(missing):
    plain = _plain()
    del plain[missing]
    with pytest.raises(ConfigError, match="is required") as error:
        parse_config(plain)
    assert error.value.key == missing


@pytest.mark.parametrize("plain", [[], "text", 3, None])
def test_what_is_no_mapping_is_refused(plain):
    with pytest.raises(ConfigError, match="mapping"):
        parse_config(plain)


# --- what is accepted


@pytest.mark.parametrize("text", ["inf", ".inf", "Infinity", ".INF"])
@pytest.mark.parametrize("key", ["beta", "k", "lam"])
def test_infinity_may_be_spelled_in_many_ways(key, text):
    config = _parse(f"{key}={text}")
    assert {"beta": config.beta, "k": config.k, "lam": config.lam}[key] == math.inf


@pytest.mark.parametrize(("given", "expected"), [(3, (0, 1, 2)), ([7, 4], (7, 4)), (1, (0,))])
def test_seeds_are_a_count_or_a_list(given, expected):
    assert _parse(seeds=given).seeds == expected


def test_whole_reals_are_whole_numbers_of_candidates():
    assert _parse("k=3.0").k == 3 and isinstance(_parse("k=3.0").k, int)


def test_yaml_spellings_of_numbers_are_understood():
    config = parse_config(
        yaml.safe_load(
            "{name: test, data: {name: two_moons}, lam: .inf, curation: {beta: 1e1, k: .inf}, "
            "learner: {lr: 1e-4}}"
        )
    ).point
    assert (config.lam, config.beta, config.k) == (math.inf, 10.0, math.inf)
    assert config.flat()["learner.lr"] == 1e-4


# --- overrides


def test_overrides_set_dotted_and_short_keys():
    config = _parse(
        "beta=2", "k=3", "lam=0.5", "learner.steps=7", "reward.center=[1, 2]", "seeds=[4]"
    )
    assert (config.beta, config.k, config.lam) == (2.0, 3, 0.5)
    assert config.flat()["learner.steps"] == 7
    assert config.flat()["reward.center"] == (1.0, 2.0)
    assert config.seeds == (4,)


def test_the_last_override_of_a_key_counts():
    assert _parse("beta=2", "curation.beta=3").beta == 3


def test_values_of_overrides_are_yaml():
    plain = override({}, ["a=1", "b=x", "c=true", "d=[1, .inf]", "e={f: null}", "g=", "h=1=2"])
    expected = {"a": 1, "b": "x", "c": True, "d": [1, math.inf], "e": {"f": None}, "g": None}
    assert plain == expected | {"h": "1=2"}


@pytest.mark.parametrize("assignment", ["beta", "=1", ""])
def test_an_override_without_key_or_value_is_refused(assignment):
    assert _refusal(assignment).value == assignment


def test_an_override_that_is_no_yaml_is_refused():
    error = _refusal("beta=[1,")
    assert (error.key, error.value) == ("beta", "[1,")


def test_a_key_below_a_plain_value_is_refused():
    assert _refusal("name.first=x").key == "name"


@pytest.mark.parametrize(
    "learner", [{"name": "otcfm", "steps": 5}, {"steps": 5}], ids=["named", "by default"]
)
def test_another_name_drops_the_old_ones_settings(learner):
    config = _parse("learner.name=empirical", learner=learner)
    assert config.learner.model_dump() == {"name": "empirical"}


def test_the_same_name_keeps_its_settings():
    config = _parse("learner.name=otcfm", learner={"name": "otcfm", "steps": 5})
    assert config.flat()["learner.steps"] == 5


def test_settings_after_another_name_belong_to_it():
    config = _parse("data.name=two_moons", "data.noise=0.3")
    assert config.data.model_dump() == {"name": "two_moons", "size": 5000, "noise": 0.3}


def test_another_kind_of_range_drops_the_old_one():
    search = {"sampler": "random", "trials": 3, "beta": {"grid": [0, 1]}}
    config = _sweep("search.beta.uniform=[0, 5]", search=search)
    assert config.search.space["curation.beta"].bounds == (0.0, 5.0)
    assert config.search.space["curation.beta"].values is None


# --- searches


def test_searched_keys_may_be_short_dotted_or_nested():
    search = {
        "beta": {"grid": [0, 1, 10]},
        "lam": {"choice": [1, math.inf]},
        "learner.lr": {"grid": [1e-3, 1e-4]},
        "data": {"std": {"grid": [0.1]}},
    }
    config = _sweep(search=search)
    assert {key: dimension.values for key, dimension in config.search.space.items()} == {
        "curation.beta": [0, 1, 10],
        "lam": [1, math.inf],
        "learner.lr": [1e-3, 1e-4],
        "data.std": [0.1],
    }
    assert config.point_count == 3 * 2 * 2


def test_without_a_search_there_is_one_point():
    assert _sweep().point_count == 1


def test_samplers_other_than_grid_have_as_many_points_as_trials():
    search = {"sampler": "tpe", "trials": 9, "beta": {"loguniform": [0.1, 10]}}
    assert _sweep(search=search).point_count == 9


BAD_SEARCHES = [
    ({"beta": {"grid": [1], "uniform": [0, 1]}}, "exactly one"),
    ({"beta": {}}, "exactly one"),
    ({"beta": {"grid": []}}, "at least 1"),
    ({"beta": {"uniform": [0, 1]}}, "sampler='grid': needs curation.beta as a grid"),
    ({"sampler": "tpe", "trials": 3, "beta": {"uniform": [1, 0]}}, "low < high"),
    ({"sampler": "tpe", "trials": 3, "beta": {"uniform": [1, 1]}}, "low < high"),
    ({"sampler": "tpe", "trials": 3, "beta": {"loguniform": [0, 1]}}, "low > 0"),
    ({"sampler": "tpe", "trials": 3, "beta": {"uniform": [0, math.inf]}}, "finite"),
    ({"sampler": "tpe", "beta": {"uniform": [0, 1]}}, "must be given with sampler=tpe"),
    ({"trials": 3, "beta": {"grid": [0, 1]}}, "a grid runs every point"),
    ({"seeds": {"grid": [1, 2]}}, "cannot be searched"),
    ({"resources.threads": {"grid": [1, 2]}}, "cannot be searched"),
    ({"description": {"grid": ["a", "b"]}}, "cannot be searched"),
    ({"sampler": "annealing", "beta": {"grid": [1]}}, "tpe"),
]


@pytest.mark.parametrize(("search", "complaint"), BAD_SEARCHES, ids=str)
def test_a_search_that_cannot_be_is_refused(search, complaint):
    error = _refusal(search=search)
    assert error.key.startswith("search")
    assert complaint in str(error)


def test_early_stopping_needs_one_objective():
    objectives = [{"metric": "reward_mean"}, {"metric": "class_entropy"}]
    error = _refusal(search={"objective": objectives, "early_stop": {}})
    assert "one objective" in error.allowed


# --- points


def test_a_point_has_its_values_and_no_search():
    config = _sweep(search={"beta": {"grid": [1, 2]}, "lam": {"grid": [0, 1]}})
    point = at_point(config, {"curation.beta": 2, "lam": 0})
    assert (point.beta, point.lam) == (2.0, 0.0)
    assert "search" not in point.model_dump()
    assert point.flat() == config.point.flat() | {"curation.beta": 2.0, "lam": 0.0}


def test_points_leave_the_configuration_they_come_from_alone():
    config = _sweep(search={"beta": {"grid": [1, 2]}}, learner={"steps": 5})
    before = copy.deepcopy(config.model_dump())
    at_point(config, {"curation.beta": 7, "learner.name": "empirical", "seeds": [9]})
    assert config.model_dump() == before


def test_a_value_that_does_not_fit_its_key_is_refused_at_its_point():
    config = _sweep(search={"learner.lr": {"grid": [0.1, -1]}})
    with pytest.raises(ConfigError) as error:
        at_point(config, {"learner.lr": -1})
    assert error.value.key == "learner.lr"


def test_a_point_does_not_depend_on_the_order_of_its_values():
    config = _sweep(
        search={"data.size": {"grid": [50]}, "data.name": {"grid": ["two_moons"]}},
    )
    values = {"data.size": 50, "data.name": "two_moons"}
    expected = at_point(config, dict(reversed(values.items())))
    assert expected.flat()["data.size"] == 50
    assert at_point(config, values) == expected


def test_a_configuration_cannot_be_changed():
    config = _parse()
    for part, key in ((config, "lam"), (config.curation, "beta"), (config.data, "size")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, key, 3)


def test_parsing_leaves_its_input_alone():
    plain = _plain(search={"beta": {"grid": [1]}, "objective": {"metric": "loss"}}, seeds=3)
    before = copy.deepcopy(plain)
    parse_config(plain)
    assert plain == before


def test_flat_values_are_dotted_and_rebuild_the_configuration():
    config = _parse("beta=3", "lam=.inf", "reward.center=[1, 2]", "seeds=[4, 2]")
    flat = config.flat()
    assert flat["curation.beta"] == 3.0 and flat["data.size"] == 100
    assert flat["resources.trial.cpus"] == "auto"
    assert at_point(_sweep(), flat) == config


# --- sizes


SIZES = [
    # keys, samples of data, (real, kept, pool)
    ({}, 100, (0, 100, 200)),
    ({"lam": 1}, 100, (100, 100, 200)),
    ({"lam": 0.29}, 100, (100, 29, 58)),  # 0.29·100 is 28.999999999999996 in floating point
    ({"lam": 0.57}, 100, (100, 57, 114)),
    ({"lam": 0.299}, 100, (100, 29, 58)),
    ({"lam": 1e-5}, 100, (100, 0, 100)),
    ({"lam": 0}, 100, (100, 0, 100)),
    ({"lam": 0, "kept_size": 30}, 100, (100, 0, 100)),
    ({"lam": 0.5, "kept_size": 30}, 100, (60, 30, 60)),
    ({"lam": 0.1, "kept_size": 7}, 100, (70, 7, 14)),
    ({"lam": 3, "kept_size": 10}, 100, (3, 10, 20)),
    ({"lam": math.inf, "kept_size": 30}, 100, (0, 30, 60)),
    ({"lam": math.inf, "real_size": 40}, 100, (0, 40, 80)),
    ({"lam": 0.5, "real_size": 40}, 100, (40, 20, 40)),
    ({"lam": 1, "curation": {"k": 5}}, 100, (100, 100, 500)),
    ({"lam": 1, "curation": {"k": 1}}, 100, (100, 100, 100)),
    ({"lam": 1, "curation": {"k": "inf"}}, 100, (100, 100, 400)),
    ({"lam": 1, "pool_size": 900}, 100, (100, 100, 900)),
    ({"lam": 1, "pool_size": 200}, 100, (100, 100, 200)),
    ({"lam": 1, "curation": {"k": "inf"}, "pool_size": 1}, 100, (100, 100, 1)),
    ({"lam": 0, "pool_size": 5}, 100, (100, 0, 5)),
]


@pytest.mark.parametrize(("keys", "data", "expected"), SIZES, ids=str)
def test_sizes_are_those_of_algorithm_1_or_of_a_fixed_kept_size(keys, data, expected):
    sizes = training_sizes(_parse(**keys), data)
    assert (sizes.real, sizes.kept, sizes.pool) == expected


BAD_SIZES = [
    ({"pool_size": 199}, "pool_size", 199, "200"),
    ({"lam": 1, "curation": {"k": 5}, "pool_size": 499}, "pool_size", 499, "500"),
    ({"real_size": 101}, "real_size", 101, "100"),
    ({"lam": 0, "real_size": 101}, "real_size", 101, "100"),
    ({"lam": 0.25, "kept_size": 30}, "kept_size", 30, "120"),
]


@pytest.mark.parametrize(("keys", "key", "value", "allowed"), BAD_SIZES, ids=str)
def test_sizes_that_cannot_be_are_refused(keys, key, value, allowed):
    with pytest.raises(ConfigError) as error:
        training_sizes(_parse(**keys), 100)
    assert (error.value.key, error.value.value) == (key, value)
    assert allowed in error.value.allowed


@pytest.mark.parametrize(
    ("keys", "key", "value"),
    [({"curation": {"k": 10**9}}, "curation.k", 10**9), ({"lam": 1e300}, "lam", 1e300)],
    ids=str,
)
def test_more_samples_than_any_machine_holds_are_forecast_but_never_drawn(keys, key, value):
    assert training_sizes(_parse(**keys), 100).pool > 10**9
    with pytest.raises(ConfigError) as error:
        Rows.of(_parse(**keys), 100)
    assert (error.value.key, error.value.value) == (key, value)


@pytest.mark.parametrize(
    "search",
    [
        {"learner.lr": {"grid": [0.1, 0.2]}, "beta": {"grid": [1, 2]}},
        {"learner": {"lr": {"grid": [0.1, 0.2]}}, "beta": {"grid": [1, 2]}},
        {"learner": {"lr": {"grid": [0.1]}}, "curation": {"beta": {"grid": [1, 2]}}},
    ],
    ids=str,
)
def test_a_key_set_on_the_command_line_is_no_longer_searched(search):
    given = {"name": "x", "data": {"name": "two_moons"}, "search": search}
    config = parse_config(override(given, ["learner.lr=0.5"]))
    assert list(config.search.space) == ["curation.beta"]
    assert config.point.flat()["learner.lr"] == 0.5


# --- users


def _with_users(*users: dict[str, Any], **curation: Any) -> Any:
    return _parse(curation={"users": list(users)} | curation)


def _refused_users(*users: dict[str, Any], **curation: Any) -> ConfigError:
    return _refusal(curation={"users": list(users)} | curation)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([1, 3], [0.25, 0.75]),
        ([None, None], [0.5, 0.5]),
        ([0.7, None], [0.7, 0.3]),
        ([0.4, None, None], [0.4, 0.3, 0.3]),
        ([0, 2], [0, 1]),
        ([1, None], [1, 0]),
    ],
    ids=str,
)
def test_weights_make_shares_and_users_without_one_get_the_rest(weights, shares):
    users = _with_users(*({} if weight is None else {"weight": weight} for weight in weights)).users
    assert [user.share for user in users] == pytest.approx(shares)


def test_users_have_what_they_do_not_say_from_the_point():
    point = _with_users({"beta": -2}, {"flip": 0.5, "reward": {"mode": 4}}, beta=10, flip=0.1)
    assert [(user.beta, user.flip) for user in point.users] == [(-2, 0.1), (10, 0.5)]
    assert [reward.model_dump()["mode"] for reward in point.rewards] == [0, 4]
    pickers = [(each.user, each.beta, each.reward, each.errs) for each in point.pickers]
    assert pickers == [(0, -2, 0, False), (0, 2, 0, True), (1, 10, 1, False), (1, -10, 1, True)]
    assert sum(each.share for each in point.pickers) == pytest.approx(1)


BAD_USERS = [
    ([{"wieght": 1}], "curation.users.0.wieght", "did you mean weight?"),
    ([{}, {"reward": {"name": "mode_distnace"}}], "curation.users.1.reward.name", "mode_distance"),
    ([{"reward": {"name": "mode_distance", "mod": 1}}], "curation.users.0.reward.mod", "mode?"),
    ([{"weight": 0}], "curation.users.0.weight", "above 0"),
    ([{"weight": 0.8}, {"weight": 0.3}, {}], "curation.users.0.weight", "at most 1"),
    ([{"beta": math.nan}], "curation.users.0.beta", "-inf to inf"),
    ([{"flip": 1.5}], "curation.users.0.flip", "less than or equal to 1"),
    ([], "curation.users", "at least 1"),
]


@pytest.mark.parametrize(("users", "key", "complaint"), BAD_USERS, ids=str)
def test_a_bad_user_is_named_by_number(users, key, complaint):
    error = _refused_users(*users)
    assert error.key == key and complaint in error.allowed


def test_choices_of_ones_own_take_no_users_and_ours_no_arguments():
    assert "drop users" in _refused_users({}, kind="mine:top").allowed
    assert "drop flip" in _refusal(curation={"kind": "mine:top", "flip": 0.1}).allowed
    assert "takes no args" in _refusal(curation={"args": {"a": 1}}).allowed
    assert "package.module:attribute" in _refusal(curation={"kind": "luze"}).allowed


def test_dotted_keys_reach_into_users():
    curation = {"users": [{"weight": 0.7}, {"reward": {"mode": 4}}]}
    keys = ["curation.users.0.weight", "curation.users.1.beta", "curation.users.1.reward.mode"]
    config = _sweep(*(f"search.{key}.grid=[1, 2]" for key in keys[1:]), curation=curation)
    assert list(config.search.space) == keys[1:]
    point = at_point(config, {keys[0]: 0.5, keys[1]: -3, keys[2]: 2})
    assert [user.share for user in point.users] == [0.5, 0.5]
    assert values_of(point, keys) == {keys[0]: 0.5, keys[1]: -3.0, keys[2]: 2}
    assert point.flat()[keys[1]] == -3.0 and config.point.flat()[keys[1]] is None
    assert at_point(_sweep(), point.flat()) == point
    assert at_point(config, {keys[2]: 2}).users[0] == config.point.users[0]
    overridden = _parse("curation.users.1.beta=7", curation=curation)
    assert overridden.users[1].beta == 7


def test_a_user_that_there_is_not_is_refused():
    with pytest.raises(ConfigError) as error:
        at_point(_sweep(curation={"users": [{}]}), {"curation.users.3.beta": 1})
    assert error.value.key == "curation.users.3" and "none of the 1" in error.value.allowed


def test_another_reward_of_a_user_drops_the_old_ones_settings():
    curation = {"users": [{"reward": {"name": "mode_distance", "mode": 3}}]}
    point = _parse("curation.users.0.reward.name=max_confidence", curation=curation)
    assert point.rewards[0].model_dump() == {"name": "max_confidence"}


def test_points_are_not_named_by_a_beta_that_no_user_has():
    flat = _with_users({"beta": 3}, {"beta": 4}).flat()
    assert point_name(flat, ["curation.users.0.beta"]) == "λ=inf K=2 curation.users.0.beta=3"
    assert point_name(_with_users({"beta": 3}, {}).flat(), []).startswith("β=1 ")


# --- one spelling of a key


BETAS = {"choice": [0, 1]}
TWICE = [
    ({"search": {"beta": BETAS, "curation.beta": BETAS}}, "curation.beta", "as beta and as"),
    ({"search": {"beta": BETAS, "curation": {"beta": BETAS}}}, "curation.beta", "as beta and as"),
    ({"search": {"data.std": BETAS, "data": {"std": BETAS}}}, "data.std", "as data.std"),
    (
        {"claims": [{"says": "x", "point": {"k": 2, "curation.k": 3}, "above": 0}]},
        "claims.0.point.curation.k",
        "as k and as curation.k",
    ),
]


@pytest.mark.parametrize(("keys", "key", "said"), TWICE, ids=str)
@pytest.mark.parametrize("others", [[], ["seeds=2"], ["search.sampler=grid"]], ids=str)
def test_a_key_in_two_spellings_is_refused_with_both(keys, key, said, others):
    error = _refusal(*others, **keys)
    assert error.key.endswith(key) and said in error.allowed


@pytest.mark.parametrize(
    "search",
    [
        {"beta": {"uniform": [0, 1]}, "lam": BETAS},
        {"curation.beta": {"uniform": [0, 1]}, "lam": BETAS},
        {"curation": {"beta": {"uniform": [0, 1]}}, "lam": BETAS},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "assignment",
    [
        "search.beta.grid=[5]",
        "search.curation.beta.grid=[5]",
        "search.beta={grid: [5]}",
        "search.curation={beta: {grid: [5]}}",
    ],
)
def test_a_searched_key_of_the_command_line_beats_the_files_in_whatever_spelling(
    search, assignment
):
    space = _sweep(assignment, search=search).search.space
    assert {key: dimension.values for key, dimension in space.items()} == {
        "curation.beta": [5],
        "lam": [0, 1],
    }
    assert list(space) == ["curation.beta", "lam"]  # points keep their order


def test_users_numbered_in_a_file_are_reached_by_dotted_keys():
    config = _parse("curation.users.0.beta=7", curation={"users": {0: {"weight": 1}}})
    assert [(user.beta, user.share) for user in config.users] == [(7, 1)]


# --- what is shown of values


def _close(found: dict[str, Any]) -> dict[str, Any]:
    found["q"] = found
    return found


LONG = [
    ("name=" + "x" * 5000, "name"),
    ("description=[" + "'y', " * 5000 + "]", "description"),
    ("seeds=" + "9" * 5000, "seeds"),
    ("a" * 5000 + "=1", "a" * 5000),
    (".".join("a" * 5000) + "=1", ".".join("a" * 5000)),
    (".".join("a" * 20) + "=1", "a"),
    ("search." + "a" * 5000 + "=1", "search." + "a" * 5000),
    ("lam='" + r"line\nfeed" * 500 + "'", "lam"),
    ("curation.kind='luce\n\x07'", "curation.kind"),
]


@pytest.mark.parametrize(("assignment", "key"), LONG, ids=lambda text: text[:20])
def test_whatever_was_given_the_line_is_short_and_says_what_is_allowed(assignment, key):
    error = _refusal(assignment)
    assert error.key == key
    line = str(error)
    assert line.isprintable() and len(line) <= 1250
    assert line.endswith(error.allowed[-50:])


def test_a_mapping_of_a_caller_that_holds_itself_is_refused():
    error = _refusal(reward={"name": "mine:reward", "args": _close({})})
    assert (error.key, error.allowed) == ("reward.args.q", "holds itself")
    assert len(str(error)) < 200
