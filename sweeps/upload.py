"""What a job needs of this machine, gathered in one folder that Ray uploads.

The folder that the user submits from (their code, small files), Luceloop's own packages, and
beneath `.luceloop/` the resolved configuration and how to reach the tracking store.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from luceloop.core.config import Config
from luceloop.core.errors import ConfigError
from luceloop.core.parsing import dotted, set_dotted
from luceloop.core.storage import is_url
from luceloop.sweeps.output import plain

OWN = Path(".luceloop")
CONFIG = OWN / "config.yaml"
ENVIRONMENT = OWN / "environment.json"
"""Secrets travel in this file: Ray shows a job's command and environment variables."""
TRAVELLING = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
)
"""Environment variables that a job gets from where it was submitted."""
FILE_KEYS = ("data.path", "classifier.weights", "learner.checkpoint", "quality.inception")
"""Keys that name one file each."""
MOST_BYTES = 100 * 2**20
"""Ray keeps uploads in the memory of the head node."""

PACKAGE = "luceloop"
SKIPPED = {"__pycache__", "build", "dist", "luceloop-out", "mlruns", "node_modules"}
SKIPPED_WITH = ("pyvenv.cfg", "mlflow.db")
"""A folder with such a file is a virtual environment or an output folder."""
ROOT = Path(__file__).parents[1]


def gather(target: Path, config: Config | None) -> None:
    """Fill an empty folder with what a job needs of this machine.

    Args:
        target: the folder.
        config: of a new sweep; none for one that is resumed.

    Raises:
        ConfigError: if it is too much, or the tracking store is a file of this machine.
    """
    here = Path.cwd()
    (target / OWN).mkdir()
    named = [] if config is None else _write_config(target / CONFIG, config, here)
    files = _small_enough(here, [*_files(here), *named])
    files |= {path.relative_to(ROOT): path for path in _files(ROOT / PACKAGE)}
    for place, path in files.items():
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / place)
    _write_environment(target / ENVIRONMENT)


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


def _files(folder: Path) -> Iterator[Path]:
    """Files that may be code or belong to it; of a folder `data` beside them, code alone."""
    for parent, folders, names in os.walk(folder, followlinks=folder == ROOT / PACKAGE):
        folders[:] = [name for name in folders if _is_wanted(Path(parent, name))]
        in_data = Path(parent).relative_to(folder).parts[:1] == ("data",)
        for name in names:
            path = Path(parent, name)
            wanted = not name.startswith(".") and (path.suffix == ".py" or not in_data)
            if wanted and path.is_file():
                yield path


def _is_wanted(folder: Path) -> bool:
    name = folder.name
    if name.startswith(".") or name in SKIPPED or name.endswith(".egg-info"):
        return False
    return not any((folder / mark).exists() for mark in SKIPPED_WITH)


def _write_config(file: Path, config: Config, here: Path) -> list[Path]:
    """Write the configuration, its files beneath `here` named by their place in the upload.

    Returns:
        Those files.
    """
    values, found = plain(config), []
    for key in FILE_KEYS:
        name = dotted(values, key)
        if not isinstance(name, str) or is_url(name):
            continue
        path = Path(os.path.normpath(name))  # "here/../file" is not beneath here
        if path.is_relative_to(here):
            set_dotted(values, key, str(path.relative_to(here)))
            found.append(path)
    file.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return found


def _write_environment(path: Path) -> None:
    values = {name: os.environ[name] for name in TRAVELLING if os.environ.get(name)}
    store = values.get("MLFLOW_TRACKING_URI", "")
    if store.startswith(("sqlite:", "file:", "/", ".")):
        allowed = "must be a server's address or unset: a cluster cannot open this machine's files"
        raise ConfigError("MLFLOW_TRACKING_URI", store, allowed)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file)
