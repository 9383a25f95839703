"""What of the user's the numbers of a point depend on: code, data files, checkpoints, weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from luceloop.core.config.parts import CurationConfig
from luceloop.core.config.point import PointConfig
from luceloop.core.fields import Custom, named_code, named_files, nested, strings
from luceloop.core.io.holdings import name_of
from luceloop.core.io.places import is_url
from luceloop.core.io.plugins import sources, used_folder


def dependencies(points: Iterable[PointConfig]) -> set[str]:
    """The names of all files and folders of the user's that the numbers of points depend on.

    They are the source files behind plugins with the modules that these import, the files and
    folders that keys name, and strings in the `args` of plugins that are existing files. What code
    opens without being told its name cannot be known.

    Returns:
        Names as `core.io.holdings` gives them, whether or not something is there.
    """
    plugins, named, given = set[str](), set[str](), set[str]()
    for point in points:
        plugins |= set(named_code(point).values())
        named |= {*named_files(point).values(), *point.data.folders()}
        given |= set(_strings_in_args(point))
    named |= {text for text in given if _is_file(text)}
    return code_of(plugins) | {name_of(file) for file in named}


def code_of(plugins: Iterable[str]) -> set[str]:
    """The names of the source files that plugins ("package.module:attribute") run."""
    found, modules = sources(), {name.partition(":")[0] for name in plugins}
    return {file for module in modules for file in found.of(module)}


def _strings_in_args(point: PointConfig) -> Iterator[str]:
    for _, part in nested(point):
        if isinstance(part, Custom | CurationConfig):
            yield from (text for text in strings(part.args) if text and not is_url(text))


def _is_file(text: str) -> bool:
    try:
        return (used_folder() / text).is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False
