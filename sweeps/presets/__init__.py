"""Presets: configurations that come with the package, found by their names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from luceloop.core.errors import ConfigError

FOLDER = Path(__file__).parent
START = FOLDER / "start"


def preset_names() -> list[str]:
    """Names of all presets."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def preset_description(name: str) -> str:
    """A preset's own sentence about itself."""
    return str(yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["description"])


def preset_text(name: str) -> str:
    """The YAML of a preset, with its comments.

    Raises:
        ConfigError: if there is none of this name.
    """
    names = preset_names()
    if name not in names:
        allowed = f"must be one of {', '.join(names)}{_suggest(name)}"
        raise ConfigError("NAME", name, allowed)
    return (FOLDER / f"{name}.yaml").read_text()


def start_files() -> dict[str, str]:
    """The files that a user begins with, by their names: a configuration and its reward."""
    files = sorted(START.iterdir())
    return {file.name: file.read_text() for file in files if file.suffix in (".py", ".yaml")}


def read_plain(source: str) -> dict[str, Any]:
    """The plain values of a preset or a file.

    Raises:
        ConfigError: if there is neither, or it holds no mapping.
    """
    path = FOLDER / f"{source}.yaml"
    if source not in preset_names():
        path = Path(source).expanduser()
        if not path.is_file():
            named = ", ".join(preset_names())
            allowed = f"is neither a file nor a preset ({named}){_suggest(source)}"
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


def _suggest(name: str) -> str:
    close = difflib.get_close_matches(name, preset_names(), n=1)
    return f"; did you mean {close[0]}?" if close else ""
