"""Addresses hold tokens: they are read, checked, and nowhere shown or written as configuration."""

from __future__ import annotations

import pickle

import pytest
import yaml

from luceloop.core.config.naming import describe
from luceloop.core.config.parsing import override, parse_config, plain_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.config.webhooks import (
    default_address,
    hidden_in,
    host_of,
    read_address,
    without_addresses,
)
from luceloop.core.errors import ConfigError

TOKEN = "T0ken-7f3c9a"
ADDRESS = f"https://me:{TOKEN}@hooks.example.com:8443/services/{TOKEN}?key={TOKEN}"
PLAIN = {"name": "x", "data": {"name": "two_moons"}}


def _config(notify: object) -> SweepConfig:
    return parse_config(PLAIN | {"notify": notify})


def test_an_address_is_no_part_of_what_is_written_or_shown():
    config, without = _config(ADDRESS), parse_config(PLAIN)
    assert config.notify is not None and config.notify.get_secret_value() == ADDRESS
    assert plain_config(config) == plain_config(without)
    assert config.point == without.point and config.point.flat() == without.point.flat()
    shown = f"{config!r} {config} {describe(config)} {config.model_dump()}"
    assert TOKEN not in shown + config.model_dump_json() + yaml.safe_dump(plain_config(config))
    assert pickle.loads(pickle.dumps(config)) == config


BAD = [
    f"ftp://hooks.example.com/{TOKEN}",
    f"hooks.example.com/{TOKEN}",
    f"https:///{TOKEN}",
    f"https://hooks.example.com:port/{TOKEN}",
    f"https://hooks.example.com/{TOKEN} more",
    f"https://hooks.example.com/{TOKEN}\nHost: other",
    f"https://[::1/{TOKEN}",
    f"@/no/such/file/{TOKEN}",
    "",
    5,
    [f"https://{TOKEN}"],
    {"url": f"https://hooks.example.com/{TOKEN}"},
]


@pytest.mark.parametrize("given", BAD, ids=str)
def test_what_is_no_address_is_refused_in_a_line_without_it(given):
    with pytest.raises(ConfigError) as found:
        _config(given)
    assert str(found.value).startswith("notify='…': ") and TOKEN not in repr(found.value)
    assert "\n" not in str(found.value)


def test_an_address_may_stand_in_a_file_or_in_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "hook"
    file.write_text(f"{ADDRESS}\n")
    assert read_address(f"@{file}") == ADDRESS
    plain = override(dict(PLAIN), [f'notify="@{file}"'])
    assert parse_config(plain).notify == _config(ADDRESS).notify
    file.write_text(f"secret {TOKEN}")
    with pytest.raises(ConfigError) as found:
        _config(f"@{file}")
    assert TOKEN not in repr(found.value)
    monkeypatch.delenv("LUCELOOP_NOTIFY", raising=False)
    assert default_address() == ""
    monkeypatch.setenv("LUCELOOP_NOTIFY", ADDRESS)
    assert default_address() == ADDRESS
    monkeypatch.setenv("LUCELOOP_NOTIFY", TOKEN)
    with pytest.raises(ConfigError, match=r"^\$LUCELOOP_NOTIFY='…': must be"):
        default_address()


def test_of_an_address_the_host_alone_is_shown():
    assert host_of(ADDRESS) == "hooks.example.com"


def test_commands_and_files_are_kept_without_addresses():
    other = ADDRESS.replace("services", "older")
    command = ["luceloop", "run", "x.yaml", f"notify={other}", "--notify", other, ADDRESS, "lam=1"]
    assert hidden_in(command, ADDRESS) == [
        "luceloop", "run", "x.yaml", "notify=…", "--notify", "…", "…", "lam=1",
    ]  # fmt: skip
    diff = f'-notify: {other}\n+notify: \'{other}\' # a\n+"notify": "{other}",\n lam: 1\n+{ADDRESS}'
    assert without_addresses(diff, ADDRESS) == ('-notify: …\n+notify: …\n+"notify": …\n lam: 1\n+…')
