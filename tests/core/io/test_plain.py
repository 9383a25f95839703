"""Plain values: what YAML of users' may hold, and what is refused in a line before it costs."""

from __future__ import annotations

import tracemalloc
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import yaml

from luceloop.core.errors import ConfigError
from luceloop.core.io.plain import MOST_CHARACTERS, MOST_DEPTH, MOST_VALUES, read_yaml, taken_over

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 30)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))

REFUSED = [
    # text, what is said
    ("a: 1\nb: 2\na: 3", "key a is repeated, in lines 1 and 3"),
    ("a: {b: {c: 1, d: 2,\n c: 3}}", "key a.b.c is repeated, in lines 1 and 2"),
    ("a:\n- {b: 1}\n- {b: 1, b: 2}", "key a.1.b is repeated, in line 3"),
    ("'a': 1\na: 3", "key a is repeated"),
    ("1: x\n'0x1': y\n0x1: z", "key 1 is repeated, in lines 1 and 3"),
    ("a: &x {b: 1}\nc: {<<: *x, <<: *x}", "key c.<< is repeated"),
    (BOMB, f"holds more than {MOST_VALUES} values"),
    (MERGES, f"holds more than {MOST_VALUES} values"),
    (CHAIN, f"holds more than {MOST_DEPTH} lists and mappings inside each other"),
    ("args: &z {q: *z}", "args.q holds itself, by the alias *z"),
    ("&z [[*z]]", "0.0 holds itself, by the alias *z"),
    ("[" * 50_000, f"holds more than {MOST_DEPTH} lists and mappings"),
    ("{a: " * 50_000, f"holds more than {MOST_DEPTH} lists and mappings"),
    ("- " * 50_000, f"holds more than {MOST_DEPTH} lists and mappings"),
    ("? " * 50_000, f"holds more than {MOST_DEPTH} lists and mappings"),
    ("9" * 5000, "the number in line 1 may have at most 100 digits"),
    ("a: 0x" + "f" * 5000, "the number in line 1 may have at most 100 digits"),
    (":".join(["1"] * 400) + ".5", "may have at most 100 digits"),
    ("0x_", "'0x_' is no number"),
    ("[" + "0, " * MOST_VALUES + "0]", f"holds more than {MOST_VALUES} values"),
    ("a" * (MOST_CHARACTERS + 1), f"at most {MOST_CHARACTERS} characters"),
    ("{[1, 2]: 3}", "keys must be plain text"),
    ("!!python/object/apply:os.getcwd []", "takes no tags"),
    ("!!int x", "takes no tags"),
    ("a: !!timestamp x", "takes no tags"),
    ("=", "is not a YAML value"),
    ("*nowhere", "is not a YAML value: found undefined alias"),
    ("a: 1\n---\nb: 2", "is not a YAML value"),
    ("a: [1", "is not a YAML value"),
    ("\x00", "is not a YAML value"),
    ("\udc80", "is not a YAML value"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[f"{text[:20]!r}" for text, _ in REFUSED])
def test_what_no_configuration_can_hold_is_refused_in_one_short_line(text: str, said: str):
    with pytest.raises(ConfigError) as error:
        read_yaml(text, "key", text)
    line = str(error.value)
    assert said in line and line.startswith("key=") and line.isprintable() and len(line) < 500


@pytest.mark.parametrize("text", [BOMB, MERGES, CHAIN], ids=["bomb", "merges", "chain"])
def test_what_is_refused_takes_little_memory(text: str):
    tracemalloc.start()
    with pytest.raises(ConfigError):
        read_yaml(text, "key", text)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("a: &x {k: 1}\nb: {<<: *x, k: 2, l: 3}", {"a": {"k": 1}, "b": {"k": 2, "l": 3}}),
        ("{a: {k: 1}, b: {k: 1}}", {"a": {"k": 1}, "b": {"k": 1}}),
        ("[1_000, 0x10, 1.5, .inf, true, ~, 2024-01-31]", None),
        ("9" * 100, int("9" * 100)),
        ("!!str 1", "1"),
        ("{1: x, a: y}", {1: "x", "a": "y"}),
    ],
    ids=str,
)
def test_plain_values_are_read_as_yaml_says(text: str, value: Any):
    if text.startswith("[1_000"):  # a date would be another type after a sweep's file is written
        value = [1000, 16, 1.5, float("inf"), True, None, "2024-01-31"]
    assert read_yaml(text, "key", text) == value


def _within(depth: int) -> Any:
    return [_within(depth - 1)] if depth else 0


def test_values_of_a_caller_have_the_same_bounds():
    holding: dict[str, Any] = {"args": {}}
    holding["args"]["q"] = holding["args"]
    bomb: Any = 0
    for _ in range(20):
        bomb = [bomb] * 10
    for given, key, said in (
        (holding, "args.q", "holds itself"),
        ({"a": bomb}, "a.0", "holds more than"),
        ({"a": _within(5000 // 10)}, "a.0", "inside each other"),
        ({"a": [10**5000]}, "a.0", "digits"),
    ):
        with pytest.raises(ConfigError) as error:
            taken_over(given)
        assert error.value.key.startswith(key) and said in error.value.allowed
        assert len(str(error.value)) < 500


def test_a_copy_of_values_shares_no_list_and_no_mapping_with_them():
    shared = [1]
    given = MappingProxyType({"a": shared, "b": (shared, {"c": shared}), "d": _within(20)})
    copied = taken_over(given)
    assert copied == {"a": [1], "b": ([1], {"c": [1]}), "d": _within(20)}
    shared.append(2)
    assert copied["a"] == copied["b"][0] == copied["b"][1]["c"] == [1]


def test_values_of_a_caller_become_those_that_a_file_would_have():
    given = {"a": np.float64(0.5), "b": [np.int64(3), True, None], "c": Path("x/y"), "d": 1.5}
    copied = taken_over(given)
    assert copied == {"a": 0.5, "b": [3, True, None], "c": "x/y", "d": 1.5}
    assert type(copied["a"]) is float and type(copied["b"][0]) is int
    assert yaml.safe_load(yaml.safe_dump(copied)) == copied


@pytest.mark.parametrize("value", [b"x", {1}, date(2024, 1, 31), 1j, np.zeros(2), object()])
def test_what_no_file_could_say_is_refused_by_its_kind(value: Any):
    with pytest.raises(ConfigError, match=f"no {type(value).__name__}") as error:
        taken_over({"a": {"b": [value]}})
    assert error.value.key == "a.b.0" and len(str(error.value).splitlines()) == 1
