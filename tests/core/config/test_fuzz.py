"""Whatever is written as a configuration, it is one, or there is one line that says why not."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luceloop.core.config.naming import describe
from luceloop.core.config.parsing import override, parse_config, plain_config
from luceloop.core.config.point import PointConfig
from luceloop.core.config.search import Dimension, SearchConfig
from luceloop.core.config.sweep import OWN_KEYS
from luceloop.core.errors import ConfigError
from luceloop.core.fields import flatten
from luceloop.core.io.plain import read_yaml, taken_over
from luceloop.sweeps.presets import preset_names, read_plain
from luceloop.sweeps.search.space import check_space
from tests.support import run_main

EXAMPLES = int(os.environ.get("LUCELOOP_FUZZ", "300"))
"""Examples of a test; many more are tried by hand: `LUCELOOP_FUZZ=20000 pytest ...`."""
LONGEST = 1250
"""Characters of a line."""
fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=10_000,
    suppress_health_check=list(HealthCheck),
    database=None,
)

PRESETS = {name: read_plain(name) for name in preset_names()}
KEYS = sorted(
    {part for plain in PRESETS.values() for key in flatten(plain) for part in key.split(".")}
    | {*OWN_KEYS, *PointConfig.model_fields, *SearchConfig.model_fields, *Dimension.model_fields}
    | {"name", "nme", "args", "users", "0", "1", "weight", "until", "half_width", "above", "space"}
)
TEXTS = ["inf", ".inf", "auto", "last", "latest", "npz", "mine:reward", "a\nb", "[/b]", "\x1b[0m"]
TEXTS += ["\ud800", "9" * 5000, "x" * 5000, "1e-4", "[1,", "{a: ", "&a [*a]", "s3://", "@x", "\0"]
numbers = st.one_of(
    st.integers(-3, 5),
    st.integers(),
    st.floats(),
    st.sampled_from([10**9, 10**18, 2**63, 10**99, 10**4000, 1e308, -0.0]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.text(max_size=8),
    st.sampled_from(TEXTS + KEYS),
    st.dates(),
    st.binary(max_size=3),
)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=4), st.integers(-1, 3), st.none())


def _deep(depth: int) -> Any:
    return {"args": _deep(depth - 1)} if depth else 1


def _holding_itself() -> Any:
    found: dict[str, Any] = {}
    found["args"] = [found]
    return found


odd = st.one_of(st.builds(_deep, st.sampled_from([20, 200])), st.builds(_holding_itself))
values = st.recursive(
    st.one_of(scalars, odd),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4), st.tuples(inner)
    ),
    max_leaves=8,
)


def _accepted(make: Callable[[], Any]) -> Any:
    """What was made; None where it was refused as it should be."""
    try:
        return make()
    except ConfigError as error:
        line = str(error)
        assert len(line) <= LONGEST and len(line.splitlines()) == 1
        line.encode()
        return None


def _check(plain: Any, assignments: list[str]) -> None:
    """Read a configuration; where it is one, use it as the next steps would."""
    config = _accepted(lambda: parse_config(override(taken_over(plain), assignments)))
    if config is None:
        return
    assert len(describe(config).splitlines()) == 1
    text = yaml.safe_dump(plain_config(config), allow_unicode=True)
    again = _accepted(lambda: parse_config(read_yaml(text, "CONFIG", "again")))
    assert again is not None and again.point_count == config.point_count
    json.dumps(config.point.model_dump(mode="json"))
    if config.point_count <= 30:
        _accepted(lambda: check_space(config))


@fuzzed
@given(values)
def test_arbitrary_mappings_are_configurations_or_refused_in_a_line(plain: Any):
    _accepted(lambda: parse_config(plain))


def _places(plain: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in nested mappings and lists."""
    items = plain.items() if isinstance(plain, dict) else enumerate(plain)
    found = []
    for key, each in items:
        found.append((*place, key))
        if isinstance(each, dict | list):
            found += _places(each, (*place, key))
    return found


def _names(target: Any) -> Any:
    return target if isinstance(target, dict) else range(len(target))


def _at(plain: Any, parents: list[Any]) -> Any:
    for parent in parents:
        if not isinstance(plain, dict | list) or parent not in _names(plain):
            return None
        plain = plain[parent]
    return plain


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """A preset in which a few keys or values are others, gone, or more."""
    preset = PRESETS[draw(st.sampled_from(sorted(PRESETS)))]
    plain, places = copy.deepcopy(preset), st.sampled_from(_places(preset))
    for *parents, last in draw(st.lists(places, min_size=1, max_size=3)):
        target = _at(plain, parents)
        if not isinstance(target, dict | list) or last not in _names(target):
            continue  # an earlier change took the place away
        what = draw(st.sampled_from(["value", "key", "gone", "more", "letter"]))
        if what == "value" or isinstance(target, list):
            target[last] = draw(values)
        elif what == "more":
            target[draw(keys)] = draw(values)
        else:
            value, cut = target.pop(last), draw(st.integers(0, 8))
            if what == "key":
                target[draw(keys)] = value
            elif what == "letter":  # as by a slip of the finger
                target[str(last)[:cut] + str(last)[cut + 1 :]] = value
    return plain


@fuzzed
@given(changed())
def test_presets_with_other_keys_and_values_are_configurations_or_refused_in_a_line(plain):
    _check(plain, [])


dotted = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4).map(".".join)
known = st.sampled_from(sorted({key for plain in PRESETS.values() for key in flatten(plain)}))
names = st.one_of(known, dotted, st.text(max_size=6), known.map(lambda key: f"search.{key}.grid"))
written = st.one_of(
    values.map(repr),
    st.text(max_size=12),
    st.sampled_from(TEXTS),
    st.sampled_from(["{grid: [1, 2]}", "{uniform: [0, 1]}", "[0, 1]", "[1, 1.0]", "{name: npz}"]),
)
assignments = st.tuples(names, st.sampled_from(["=", "=", "=", "", "=="]), written).map("".join)


@fuzzed
@given(st.sampled_from(sorted(PRESETS)), st.lists(assignments, min_size=1, max_size=3))
def test_overrides_make_configurations_or_are_refused_in_a_line(preset, given_):
    _check(copy.deepcopy(PRESETS[preset]), given_)


PIECES = ["- ", ": ", "? ", "<<: ", "*a", "&a ", "---\n", "!!int ", "!x ", "\n  ", "name", "beta"]
PIECES += ["search", "0x", "1_", "1:2", "2024-99-99", ".inf", "~", "=", "\0", "\t"]
tokens = st.sampled_from([*"[]{}:,-?&*!|>%@#'\"\n ", *PIECES])
texts = st.one_of(st.lists(tokens, max_size=30).map("".join), st.text(max_size=40))


@st.composite
def torn(draw: st.DrawFn) -> str:
    """A preset's file with something else written into it."""
    text = yaml.safe_dump(PRESETS[draw(st.sampled_from(sorted(PRESETS)))], sort_keys=False)
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(texts) + text[start + draw(st.integers(0, 20)) :]


@fuzzed
@given(st.one_of(texts, torn()))
def test_texts_are_yaml_of_a_configuration_or_refused_in_a_line(text):
    _accepted(lambda: parse_config(read_yaml(text, "CONFIG", text)))


@settings(fuzzed, max_examples=max(20, EXAMPLES // 10))
@given(data=st.data())
def test_the_command_line_ends_with_2_and_a_line_and_writes_nothing(
    data, tmp_path_factory, capfd, monkeypatch
):
    folder: Path = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    plain = data.draw(changed())
    source = data.draw(st.one_of(torn(), st.just(_yaml_of(plain))))
    (folder / "mine.yaml").write_text(source, errors="backslashreplace")
    given_ = data.draw(st.lists(assignments.filter(lambda a: "\0" not in a), max_size=2))
    given_ = [each for each in given_ if not each.startswith("-")]
    if _accepted(lambda: _as_command(folder / "mine.yaml", given_)) is not None:
        return  # a run of it would take its time
    capfd.readouterr()
    assert run_main("run", "mine.yaml", *given_, "--output", "out") == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and len(err) <= LONGEST
    assert [file.name for file in folder.iterdir()] == ["mine.yaml"]


def _yaml_of(plain: Any) -> str:
    try:
        return yaml.safe_dump(plain)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):  # no YAML can say it
        return "[" * 100


def _as_command(file: Path, given_: list[str]) -> Any:
    from luceloop.sweeps.presets.reading import read_config

    return read_config(str(file), given_)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_configurations(name: str):
    _check(copy.deepcopy(PRESETS[name]), [])
