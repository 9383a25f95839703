"""What a job needs of this machine, gathered in one folder that Ray uploads.

    luceloop/       this package
    users-folder/   the folder that the user submits from: their code, small files
    .luceloop/      the resolved configuration, git's state, and how to reach the tracking store

The package and the user's folder lie beside each other, so no file of one can be taken for a file
of the other.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

import luceloop
from luceloop.core.config.parsing import override, plain_config, set_dotted
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.config.webhooks import VARIABLE, default_address
from luceloop.core.errors import ConfigError
from luceloop.core.fields import named_code, strings
from luceloop.core.io.places import is_url
from luceloop.core.io.plain import MOST_CHARACTERS
from luceloop.core.io.sources import Sources
from luceloop.sweeps.cluster.selection import select
from luceloop.sweeps.record.revision import revision_of
from luceloop.sweeps.search.space import check_space

FOLDER = Path("users-folder")
"""The user's folder, where the job runs."""
OWN = Path(".luceloop")
CONFIG = OWN / "config.yaml"
REVISION = OWN / "revision.json"
"""What the user's folder has checked out: its repository stays here."""
ENVIRONMENT = OWN / "environment.json"
"""Secrets travel in this file: Ray shows a job's command and environment variables."""
NOTIFY = OWN / "notify"
"""The address that the sweep tells of itself, where it was named; it is as secret."""
TRAVELLING = (
    VARIABLE,
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
)
"""Environment variables that a job gets from where it was submitted."""
MOST_BYTES = 100 * 2**20
"""Ray keeps uploads in the memory of the head node."""


@dataclass(frozen=True)
class Upload:
    """What of the user's folder travels."""

    sizes: Mapping[Path, int]
    """Bytes of files, by their place beneath the folder."""
    secrets: Sequence[Path]
    """Places of files that stay here because they look like secrets."""
    outside: Sequence[Path]
    """Places of links that stay here because they lead out of the folder."""

    @property
    def largest(self) -> Path:
        """The largest file."""
        return max(self.sizes, key=lambda place: self.sizes[place])


def gather(
    target: Path,
    config: SweepConfig | None,
    named: Iterable[Path] = (),
    address: str = "",
) -> Upload:
    """Fill an empty folder with what a job needs of this machine.

    Args:
        target: the folder.
        config: of a new sweep; none for one that is resumed or extended.
        named: further files of this folder that travel.
        address: whom the sweep tells of itself, if it names one.

    Returns:
        What travels of the user's folder, and what stays though it might be missed.

    Raises:
        ConfigError: if it is too much, or the tracking store is a file of this machine.
    """
    here = Path.cwd()
    (target / OWN).mkdir()
    (target / FOLDER).mkdir()
    own = [] if config is None else _write_config(target / CONFIG, config, here)
    own += [] if config is None else _code(config, here)
    found, needed = select(here), [*own, *named]
    sizes = dict[Path, int]()
    for place, path in _small_enough(here, [*found.files, *needed]).items():
        copy = target / FOLDER / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        sizes[place] = copy.stat().st_size
    package = Path(luceloop.__file__).parent
    # In a checkout the layers are links, which become folders.
    shutil.copytree(package, target / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    revision = revision_of(here, alone=True)
    if revision is not None:
        (target / REVISION).write_text(revision.dump())
    _write_environment(target / ENVIRONMENT)
    if address:
        _write_secret(target / NOTIFY, address)
    stays = [
        [path.relative_to(here) for path in paths if path not in needed]
        for paths in (found.secrets, found.outside)
    ]
    return Upload(sizes, *stays)


def included_files(names: Iterable[str]) -> list[Path]:
    """Files of this folder that the user wants to travel, whatever they look like.

    Raises:
        ConfigError: if one is not there, or not beneath this folder.
    """
    here, found = Path.cwd(), list[Path]()
    for name in names:
        path = Path(os.path.normpath(here / name))
        if not path.is_file() or not path.is_relative_to(here):
            raise ConfigError("--include", name, "must be a file beneath this folder")
        found.append(path)
    return found


def _code(config: SweepConfig, here: Path) -> list[Path]:
    """Files beneath `here` that hold the code that a configuration names, ignored or not."""
    plugins = {name for point in check_space(config) for name in named_code(point).values()}
    found = Sources(here)
    places = {file for name in plugins for file in found.of(name.partition(":")[0]).values()}
    return sorted(place for place in places if place.is_relative_to(here))


def named_files(overrides: Iterable[str], config: SweepConfig | None) -> list[Path]:
    """Files of this folder that overrides name, where there is no configuration that does."""
    if config is not None:
        return []
    here = Path.cwd()
    found = [here / name for name in strings(override({}, list(overrides)))]
    return [path for path in found if path.is_file() and path.resolve().is_relative_to(here)]


def _small_enough(folder: Path, paths: Iterable[Path]) -> dict[Path, Path]:
    """The files by their place beneath `folder`."""
    sizes: dict[Path, int] = {}
    for path in paths:
        sizes[path] = path.stat().st_size
        if sum(sizes.values()) > MOST_BYTES:
            largest = max(sizes, key=lambda path: sizes[path])
            raise ConfigError(
                "upload",
                str(folder),
                f"must hold less than {MOST_BYTES // 2**20} MB of files; "
                f"there is {largest.relative_to(folder)}: move it to storage the cluster shares",
            )
    return {path.relative_to(folder): path for path in sizes}


def _write_config(file: Path, config: SweepConfig, here: Path) -> list[Path]:
    """Write the configuration, its files beneath `here` named by their place in the upload.

    Returns:
        Those files.
    """
    values, found = plain_config(config), []
    for key, name in config.point.files().items():
        path = Path(os.path.normpath(name))  # "here/../file" is not beneath here
        if not is_url(name) and path.is_relative_to(here):
            set_dotted(values, key, str(path.relative_to(here)))
            found.append(path)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    if len(text) > MOST_CHARACTERS:  # which the job would refuse to read
        allowed = f"may have at most {MOST_CHARACTERS} where it is submitted, all defaults written"
        raise ConfigError("configuration", f"{len(text)} characters", allowed)
    file.write_text(text)
    return found


def _write_environment(path: Path) -> None:
    values = {name: os.environ[name] for name in TRAVELLING if os.environ.get(name)}
    if VARIABLE in values:  # which may name a file of this machine
        values[VARIABLE] = default_address()
    store = values.get("MLFLOW_TRACKING_URI", "")
    if store.startswith(("sqlite:", "file:", "/", ".")):
        allowed = "must be a server's address or unset: a cluster cannot open this machine's files"
        raise ConfigError("MLFLOW_TRACKING_URI", store, allowed)
    _write_secret(path, json.dumps(values))


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
