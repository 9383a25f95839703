"""Presets: configurations that come with the package, found by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luceloop.core.errors import ConfigError, closest
from luceloop.core.io.plain import MOST_CHARACTERS, read_yaml

FOLDER = Path(__file__).parent
START = FOLDER / "start"
UNREADABLE = "is not readable YAML"


def preset_names() -> list[str]:
    """Names of all presets."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def preset_description(name: str) -> str:
    """A preset's own sentence about itself."""
    return str(read_plain(name)["description"])


def preset_text(name: str) -> str:
    """The YAML of a preset, with its comments.

    Raises:
        ConfigError: if there is none of this name.
    """
    names = preset_names()
    if name not in names:
        allowed = f"must be one of {', '.join(names)}{closest(name, names)}"
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
            hint = closest(source, preset_names())
            allowed = f"is neither a file nor a preset ({named}){hint}"
            raise ConfigError("CONFIG", source, allowed)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise ConfigError("CONFIG", source, f"{UNREADABLE}: {error}") from None
    plain = read_yaml(text, "CONFIG", source, UNREADABLE)
    if not isinstance(plain, dict):
        raise ConfigError("CONFIG", source, "must hold a mapping of keys to values")
    plain.setdefault("name", path.stem)
    return plain
