"""A copy of a sweep's record in its storage, from which another machine can go on.

The output folder may be one machine's disk, which goes when that machine does. Where the storage is
another place, everything on record is copied there before MLflow is given it: so whoever goes on
from the copy repeats nothing that MLflow has already. No pictures are made again of iterations that
a checkpoint has and the copy lacks, those of the last second.

sweeps/<id>/record/{config.yaml, environment.json, ledger/, previews/, initial/}

Object stores cannot append, so the ledger is cut into files, named by their first byte.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.errors import ConfigError, one_line
from core.storage import Folder, files_in, open_whole, write_whole
from sweeps.output import Output, SweepFolder, is_sweep_id

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between copies."""
COPIERS = 8
"""Files that are copied at a time."""


class Mirror:
    """Copies the record of one sweep as it grows, from a thread of its own."""

    def __init__(self, folder: SweepFolder) -> None:
        self._folder, self._there = folder, _record(folder.storage, folder.id)
        self._bytes = 0
        self.events = 0
        """Events of the ledger that have been copied, with their files."""
        self.error = ""
        """Why the last copy failed; empty if it did not."""
        self._earlier: set[Path] = set()
        """Files that earlier runs have copied; those of an iteration never change."""
        self._made: set[Folder] = set()
        self._progress = 0.0
        """When the storage last took something."""
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def close(self, patience: float) -> None:
        """Copy what is left; give up when the storage has taken nothing for `patience` seconds."""
        self._closing.set()
        self._progress = time.monotonic()
        while self._thread.is_alive() and time.monotonic() < self._progress + patience:
            self._thread.join(0.1)
        self._given_up.set()

    def _follow(self) -> None:
        while not self._given_up.is_set():
            last = self._closing.is_set()
            try:
                self.copy()
                self.error = ""
            except Exception as error:  # whatever a filesystem may raise: it is tried again
                if not self.error:
                    logger.warning("no copy of the record in %s: %s", self._there, error)
                self.error = one_line(error)
            if last and not self.error:
                return
            (self._given_up if last else self._closing).wait(INTERVAL)

    def copy(self) -> None:
        """Copy what is new; raises whatever the storage does, after which it can be tried again."""
        if not self.events:
            earlier = (file.parts[len(self._there.parts) :] for file in files_in(self._there))
            self._earlier = {Path(*parts) for parts in earlier}
            for file in (self._folder.config_file, self._folder.environment):
                self._copy(file)
        if not self._folder.ledger.exists():
            return
        with self._folder.ledger.open("rb") as ledger:
            ledger.seek(self._bytes)
            new = ledger.read()
        new = new[: new.rfind(b"\n") + 1]
        if not new:
            return
        lines = new.splitlines()
        with ThreadPoolExecutor(COPIERS, "mirror") as copiers:
            list(copiers.map(self._copy_files, lines))
        self._write(new, Path("ledger") / f"{self._bytes:015d}.jsonl")
        self._bytes += len(new)
        self.events += len(lines)

    def _copy_files(self, line: bytes) -> None:
        event = json.loads(line)
        if event["event"] == "iteration":
            for file, _ in self._folder.iteration_files(event["point"], event["iteration"]):
                if file.relative_to(self._folder.path) not in self._earlier:
                    self._copy(file)

    def _copy(self, file: Path) -> None:
        if file.exists():
            self._write(file.read_bytes(), file.relative_to(self._folder.path))

    def _write(self, content: bytes, place: Path) -> None:
        file = self._there.joinpath(*place.parts)
        if file.parent not in self._made:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(file.parent)
        write_whole(content, file)
        self._progress = time.monotonic()


def find_or_fetch(output: Output, wanted: str) -> SweepFolder:
    """The sweep that `wanted` names; from its copy, if it is a whole id that is not known here.

    Raises:
        ConfigError: if there is none.
    """
    if output.named_storage is not None and is_sweep_id(wanted):
        known = {sweep.id for sweep in output.sweeps()}
        record = _record(output.storage, wanted)
        if wanted not in known and (found := files_in(record)):
            return _fetch(output, wanted, record, found)
    return output.find(wanted)


def _record(storage: Folder, identity: str) -> Folder:
    return storage / "sweeps" / identity / "record"


def _fetch(output: Output, identity: str, record: Folder, found: list[Folder]) -> SweepFolder:
    """Copy a sweep's record here; its configuration last, by which a sweep is known to be whole."""
    folder = SweepFolder(output.path / "sweeps" / identity)
    contents: dict[Path, bytes] = {}
    for file in found:
        parts = file.parts[len(record.parts) :]
        with open_whole(file) as opened:
            contents[folder.path.joinpath(*parts)] = opened.read()
    ledger = b""
    for file in sorted(place for place in contents if place.parent.name == "ledger"):
        piece, first = contents.pop(file), int(file.stem)
        if first > len(ledger):
            raise ConfigError("SWEEP", identity, f"lacks a part of its ledger in {record}")
        if first == len(ledger):  # else a later run of the sweep has copied it again
            ledger += piece
    if folder.config_file not in contents:
        raise ConfigError("SWEEP", identity, f"has no whole copy in {record}")
    config = contents.pop(folder.config_file)
    for place, content in (contents | {folder.ledger: ledger, folder.config_file: config}).items():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(content, place)
    folder.keep_storage(output.storage)
    return folder
