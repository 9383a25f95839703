"""Custom code named in a configuration as `package.module:attribute`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luceloop.core.errors import ConfigError

PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


def load(key: str, name: str) -> Any:
    """Import the attribute that `name` ("package.module:attribute") names.

    Raises:
        ConfigError: naming `key`, if the module cannot be imported or has no such attribute.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code
        raise ConfigError(
            key,
            name,
            f"{module_name!r} cannot be imported from the folder or path: {_one_line(error)}",
        ) from error
    if not hasattr(module, attribute):
        raise ConfigError(key, name, f"module {module_name!r} has no attribute {attribute!r}")
    return getattr(module, attribute)


def build(key: str, name: str, args: Mapping[str, Any]) -> Any:
    """Load `name`; a class, or anything given arguments, is called to make the object."""
    target = load(key, name)
    if not (inspect.isclass(target) or args):
        return target
    try:
        return target(**args)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(
            key, name, f"cannot be built with {dict(args)}: {_one_line(error)}"
        ) from error


def source_digest(key: str, name: str) -> str:
    """SHA-256 of the source file behind `name`, so that editing it changes a fingerprint."""
    module = inspect.getmodule(load(key, name))
    path = getattr(module, "__file__", None)
    if path is None:
        raise ConfigError(key, name, "must live in a source file, so that it can be fingerprinted")
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
