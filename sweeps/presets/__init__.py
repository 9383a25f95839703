"""Presets: configurations that come with the package, found by their names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from luceloop.core.errors import ConfigError

FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """Names of all presets."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def preset_description(name: str) -> str:
    """A preset's own sentence about itself."""
    return str(yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["description"])


def read_plain(source: str) -> dict[str, Any]:
    """The plain values of a preset or a file.

    Raises:
        ConfigError: if there is neither, or it holds no mapping.
    """
    path = FOLDER / f"{source}.yaml"
    if source not in preset_names():
        path = Path(source).expanduser()
        if not path.is_file():
            names = preset_names()
            close = difflib.get_close_matches(source, names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            allowed = f"is neither a file nor a preset ({', '.join(names)}){hint}"
            raise ConfigError("CONFIG", source, allowed)
    try:
        plain = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("CONFIG", source, f"is not readable YAML: {reason}") from None
    if not isinstance(plain, dict):
        raise ConfigError("CONFIG", source, "must hold a mapping of keys to values")
    plain.setdefault("name", path.stem)
    return plain
