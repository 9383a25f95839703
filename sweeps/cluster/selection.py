"""Which files of the user's folder travel to a cluster: code and small files, nothing ignored."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from luceloop.core.errors import ConfigError
from luceloop.core.io.secrets import looks_secret

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


@dataclass(frozen=True)
class Selection:
    """What of a folder travels, and what was left out that somebody may miss."""

    files: list[Path]
    secrets: list[Path]
    """Files that look like secrets."""
    outside: list[Path]
    """Links to files outside the folder."""


def select(folder: Path) -> Selection:
    """Choose the files that may be code or belong to it; of a folder `data`, code alone.

    Left out are also hidden files, what git ignores, virtual environments, caches and output
    folders.
    """
    found, home = Selection([], [], []), folder.resolve()
    for path in _not_ignored(folder, _candidates(folder)):
        if not path.resolve().is_relative_to(home):
            found.outside.append(path)
        elif looks_secret(path):
            found.secrets.append(path)
        else:
            found.files.append(path)
    return found


def _candidates(folder: Path) -> Iterator[Path]:
    """Files that are neither hidden nor named by a `.gitignore` in the folder."""
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


def _not_ignored(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Those that git does not ignore either, by rules that lie elsewhere; all without git."""
    found = list(paths)
    questions: dict[Path, set[Path]] = {}
    for path in found:
        place, home = path, _home(folder, path)
        questions.setdefault(home, set()).add(place)
        while home != folder:  # git refuses what lies in a submodule, but not its folder
            place, home = home, _home(folder, home)
            questions.setdefault(home, set()).add(place)
    ignored = {path for home, asked in questions.items() for path in _ignored(home, asked)}
    return [path for path in found if ignored.isdisjoint([path, *path.parents])]


def _home(folder: Path, path: Path) -> Path:
    """The folder of the repository that a path is in, or else the one that travels."""
    return next(each for each in path.parents if each == folder or (each / ".git").exists())


def _ignored(repository: Path, paths: Iterable[Path]) -> list[Path]:
    """Those that git ignores; none where there is no git, or no repository.

    Raises:
        ConfigError: if git does not say.
    """
    places = {os.fsencode(path.relative_to(repository)): path for path in paths}
    command = ["git", "-C", str(repository), "check-ignore", "-z", "--stdin"]
    plain = os.environ | {"LC_ALL": "C"}
    try:
        asked = subprocess.run(
            command, input=b"\0".join(places), capture_output=True, check=False, env=plain
        )
    except OSError:  # there is no git
        return []
    said = asked.stderr.decode(errors="replace").strip().split("\n")[0]
    if asked.returncode in (0, 1):
        return [places[place] for place in asked.stdout.split(b"\0") if place in places]
    if "not a git repository (or any" in said:
        return []
    reason = said or f"it ended with {asked.returncode}"
    raise ConfigError("upload", str(repository), f"git does not say what is ignored: {reason}")


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
