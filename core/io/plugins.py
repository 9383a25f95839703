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
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import luceloop
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.io.calling import calling
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

    def failed(did: str, trace: TracebackType | None) -> ConfigError:
        where = f"{module_name!r} cannot be imported from the folder or path"
        return ConfigError(key, name, f"{where}: it {did}{_place(trace)}")

    with calling(failed), _folder_first():
        module = importlib.import_module(module_name)
        found = [getattr(module, attribute)] if hasattr(module, attribute) else []
    if not found:
        raise ConfigError(key, name, f"module {module_name!r} has no attribute {attribute!r}")
    return found[0]


def build(key: str, name: str, args: Mapping[str, Any]) -> Any:
    """Load `name`; a class, or anything given arguments, is called to make the object.

    Raises:
        ConfigError: naming `key`, if it cannot be imported or made.
    """
    target = load(key, name)

    def failed(did: str, trace: TracebackType | None) -> ConfigError:
        return ConfigError(key, name, f"cannot be built with {dict(args)}: it {did}{_place(trace)}")

    with calling(failed):
        return target(**args) if inspect.isclass(target) or args else target


def asking(key: str, name: str) -> AbstractContextManager[None]:
    """Looking at what the user's code has made, whose attributes may be code, too.

    Raises:
        ConfigError: naming `key`, if it raises anything inside.
    """

    def failed(did: str, trace: TracebackType | None) -> ConfigError:
        return ConfigError(key, name, f"{did}{_place(trace)}")

    return calling(failed)


def running(what: str) -> AbstractContextManager[None]:
    """Calling what the user's code has made.

    Args:
        what: it is, such as "reward my_rewards:right".

    Raises:
        LoopError: that says so, if it raises anything inside.
    """
    return calling(lambda did, _: LoopError(f"{what} {did}"))


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


def _place(trace: TracebackType | None) -> str:
    """The line of the user's own that was reached last, in brackets; nothing if there is none."""
    known = sources()
    for frame in reversed(traceback.extract_tb(trace)):
        file = Path(frame.filename)
        if file.is_absolute() and not known.is_installed(file):
            return f" ({file.name}:{frame.lineno})"
    return ""
