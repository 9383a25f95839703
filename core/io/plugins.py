"""Plugins: code of the user's own, named in a configuration as `package.module:attribute`.

It lies in the user's folder, which `use_folder` names for this process. There, and nowhere else,
the user's files come before installed packages of the same name. For whatever the user's code
imports later on, the folder stays last on the path, so that no file in it can stand in for a module
of ours, of Python's or of a package's.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import luceloop
from luceloop.core.errors import ConfigError
from luceloop.core.io.fingerprints import file_digest

PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
BESIDE = Path(luceloop.__file__).parents[1]
"""The folder that holds our package."""

_folder: Path | None = None
_appended = False
"""Whether it is on the path only because it is the user's folder."""


def use_folder(folder: Path) -> None:
    """Make a folder the one that this process imports users' code from."""
    global _folder, _appended
    importlib.invalidate_caches()
    if folder.absolute() == _folder:
        return
    if _appended and str(_folder) in sys.path:
        sys.path.remove(str(_folder))
    _folder = folder.absolute()
    _appended = str(_folder) not in sys.path
    if _appended:
        sys.path.append(str(_folder))


def name_folder(package: Path = BESIDE) -> str:
    """What another process calls the folder that this one uses, for `enter_folder`.

    Where it lies beside our package, as in an upload that each node unpacks at a place of its own,
    it is named from there.

    Args:
        package: the folder that holds our package.
    """
    folder = _folder or Path.cwd()
    beside = folder.is_relative_to(package) and folder != package
    return str(folder.relative_to(package) if beside else folder)


def enter_folder(name: str, package: Path = BESIDE) -> None:
    """Use the folder that `name_folder` named in another process, maybe on another node.

    Where it is there, it also becomes the current one, as users' code that reads files expects.
    """
    folder = package / name
    use_folder(folder)
    if folder.is_dir():
        os.chdir(folder)


def load(key: str, name: str) -> Any:
    """Import the attribute that `name` ("package.module:attribute") names.

    Raises:
        ConfigError: naming `key`, if the module cannot be imported or has no such attribute.
    """
    module_name, _, attribute = name.partition(":")
    try:
        with _folder_first():
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
    return file_digest(Path(path))


@contextmanager
def _folder_first() -> Iterator[None]:
    """Look for modules in the user's folder before anywhere else."""
    if _folder is None:
        yield
        return
    first = str(_folder)
    sys.path.insert(0, first)
    try:
        yield
    finally:
        sys.path.remove(first)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
