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
from luceloop.core.io.fingerprints import digest, file_digest
from luceloop.core.io.sources import Sources

PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
BESIDE = Path(luceloop.__file__).parents[1]
"""The folder that holds our package."""

_folder: Path | None = None
_appended = False
"""Whether it is on the path only because it is the user's folder."""
_loaded: dict[str, str | None] = {}
"""By module, the digest of its sources when this process imported it."""


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
    folder = used_folder()
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


def used_folder() -> Path:
    """The folder that this process uses; the current one, if none was named."""
    return _folder or Path.cwd()


def sources() -> Sources:
    """The user's modules, as this process finds them."""
    return Sources(_folder)


def load(key: str, name: str) -> Any:
    """Import the attribute that `name` ("package.module:attribute") names.

    Raises:
        ConfigError: naming `key`, if the module cannot be imported or has no such attribute.
    """
    module_name, _, attribute = name.partition(":")
    if module_name not in sys.modules:
        _loaded[module_name] = _digest_of(module_name)
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
    """SHA-256 of all source files that `name` runs, so that editing one changes a fingerprint.

    They are those that this process imported: what is edited later on changes nothing in it.

    Raises:
        ConfigError: naming `key`, if it cannot be imported or has no source file.
    """
    load(key, name)
    module_name = name.partition(":")[0]
    if module_name not in _loaded:
        _loaded[module_name] = _digest_of(module_name)
    found = _loaded[module_name]
    if found is None:
        raise ConfigError(key, name, "must live in a source file, so that it can be fingerprinted")
    return found


def _digest_of(module: str) -> str | None:
    """SHA-256 of the source files of a module by their names; None if it has none."""
    files = {name: file_digest(path) for name, path in sources().of(module).items()}
    return digest(str(files).encode()) if files else None


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
