"""Which files of the user's folder travel to a cluster: code and small files, nothing ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

SKIPPED = {"__pycache__", "build", "dist", "luceloop-out", "mlruns", "node_modules"}
"""Folders that hold no code of the user's."""
SKIPPED_WITH = ("pyvenv.cfg", "mlflow.db")
"""A folder with such a file is a virtual environment or an output folder."""


@dataclass(frozen=True)
class _Rules:
    """The `.gitignore` of one folder, which holds for all beneath it."""

    folder: Path
    spec: GitIgnoreSpec

    def decide(self, path: Path, *, is_folder: bool) -> bool | None:
        """Whether a path is ignored; None where the rules say nothing of it."""
        place = path.relative_to(self.folder).as_posix()
        return self.spec.check_file(f"{place}/" if is_folder else place).include


def selected(folder: Path) -> Iterator[Path]:
    """Files that may be code or belong to it; of a folder `data` beside them, code alone.

    Left out are hidden files, what `.gitignore` leaves out, virtual environments, caches and output
    folders.
    """
    rules: dict[Path, list[_Rules]] = {}
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        valid = rules[here] = rules.get(here.parent, []) + _read(here)
        folders[:] = [name for name in folders if _is_wanted(here / name, valid)]
        in_data = here.relative_to(folder).parts[:1] == ("data",)
        for name in names:
            path = here / name
            wanted = not name.startswith(".") and (path.suffix == ".py" or not in_data)
            if wanted and path.is_file() and not _is_ignored(path, valid, is_folder=False):
                yield path


def _read(folder: Path) -> list[_Rules]:
    file = folder / ".gitignore"
    if not file.is_file():
        return []
    return [_Rules(folder, GitIgnoreSpec.from_lines(file.read_text().splitlines()))]


def _is_wanted(folder: Path, rules: list[_Rules]) -> bool:
    name = folder.name
    if name.startswith(".") or name in SKIPPED or name.endswith(".egg-info"):
        return False
    if any((folder / mark).exists() for mark in SKIPPED_WITH):
        return False
    return not _is_ignored(folder, rules, is_folder=True)


def _is_ignored(path: Path, rules: list[_Rules], *, is_folder: bool) -> bool:
    """What the innermost rules that mention a path say of it."""
    for rule in reversed(rules):
        decided = rule.decide(path, is_folder=is_folder)
        if decided is not None:
            return decided
    return False
