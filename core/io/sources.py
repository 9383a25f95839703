"""Which files of the user's a module runs, found by reading its imports and never by running them.

A module is followed wherever it lies: in the user's folder, or elsewhere on the path as long as
nobody installed it there. What is installed, Python's own modules and ours are left to their
versions; of them only a plugin's own file counts.
"""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

import luceloop

INSTALLED = {"site-packages", "dist-packages"}
"""Names of folders that hold packages which an installer put there."""
IMPORTERS = {"import_module", "__import__"}
"""Functions whose first argument, where it is spelled out, is a module's name."""


class Sources:
    """The user's modules: those in a folder, and those elsewhere that nobody installed."""

    def __init__(self, folder: Path | None) -> None:
        """Name the user's folder, which comes before anything else on the path."""
        self._folder = folder

    def of(self, module: str) -> dict[str, Path]:
        """All files that importing a module may run, by their names; nothing is imported.

        A name is the file's place beneath the folder that its top-level package stands in, so it is
        the same on every machine. Imports count wherever they are written: in functions, under
        conditions, or relative ones.

        Args:
            module: a dotted name, such as `package.module`.

        Returns:
            Paths by name, the packages' `__init__.py` among them; empty if there is no such file.
        """
        own = dict(self._with_packages(module, anywhere=True))
        found, waiting = dict[str, Path](), dict(own)
        while waiting:
            name, path = waiting.popitem()
            found[name] = path
            if name in own and self.is_installed(path):
                continue
            for imported in _imports(name, path):
                more = dict(self._with_packages(imported))
                waiting |= {key: file for key, file in more.items() if key not in found}
        return dict(sorted(found.items()))

    def find(self, name: str) -> Path | None:
        """The file that has a name on this machine; None if none has."""
        top = Path(name).parts[0].partition(".")[0]
        places = (root / name for root in self._roots(top, anywhere=True))
        return next((place for place in places if place.is_file()), None)

    def _with_packages(self, module: str, anywhere: bool = False) -> Iterator[tuple[str, Path]]:
        """Names and files of a module and of the packages that it lies in, as far as there are."""
        parts = module.split(".")
        for root in self._roots(parts[0], anywhere):
            found = [_file(root.joinpath(*parts[:depth])) for depth in range(1, len(parts) + 1)]
            present = [file for file in found if file is not None]
            if present:
                yield from ((file.relative_to(root).as_posix(), file) for file in present)
                return

    def _roots(self, top: str, anywhere: bool) -> Iterator[Path]:
        """Folders that may hold a top-level module of the user's, in the order of the path."""
        if top == luceloop.__name__ and not anywhere:
            return
        if self._folder is not None:
            yield self._folder
        for root in _places(top):
            if anywhere or not self.is_installed(root):
                yield root

    def is_installed(self, path: Path) -> bool:
        """Whether a path is Python's own, ours, or where an installer put it."""
        own = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *luceloop.__path__)
        if any(path.is_relative_to(place) for place in own):
            return True
        inside = self._folder is not None and path.is_relative_to(self._folder)
        parts = path.relative_to(self._folder).parts if inside and self._folder else path.parts
        return not INSTALLED.isdisjoint(parts)


def _places(top: str) -> tuple[Path, ...]:
    """The folders in which Python finds a top-level module; looking runs none of its code."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):  # __main__, or a finder that stumbles
        return ()
    if spec is None:
        return ()
    packages = spec.submodule_search_locations or ()
    if packages:
        return tuple(Path(place).parent for place in packages)
    return (Path(spec.origin).parent,) if spec.has_location and spec.origin else ()


def _file(place: Path) -> Path | None:
    """The file of the module or package at a place, its name without an ending."""
    for suffix in (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES):
        for file in (place / f"__init__{suffix}", place.with_name(place.name + suffix)):
            if file.is_file():
                return file
    return None


def _imports(name: str, path: Path) -> Iterator[str]:
    """The modules that a file imports, and whatever may be one: attributes of packages too."""
    if path.suffix not in SOURCE_SUFFIXES:
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (
        SyntaxError,
        ValueError,
        RecursionError,
        MemoryError,
    ):  # importing it will say what is wrong
        return
    package = list(Path(name).parent.parts)
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package[: max(0, len(package) + 1 - level)] if level else []
                whole = ".".join([*base, *([module] if module else [])])
                yield from (f"{whole}.{alias.name}".strip(".") for alias in names)
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[first, *_]):
                if called in IMPORTERS and isinstance(first, ast.Constant):
                    yield str(first.value).lstrip(".")
