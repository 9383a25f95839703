"""Reading a configuration: a preset by its name, or a YAML file."""

from __future__ import annotations

from luceloop.core.config.parsing import override, parse_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.presets import read_plain


def read_config(source: str, overrides: list[str]) -> SweepConfig:
    """The configuration of a preset or a file, overrides applied.

    Raises:
        ConfigError: one line naming what is wrong.
    """
    return parse_config(override(read_plain(source), overrides))
