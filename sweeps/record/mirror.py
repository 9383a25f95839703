"""A copy of a sweep's record in its storage, from which another machine can go on.

The output folder may be one machine's disk, which goes when that machine does. Where the storage is
another place, everything on record is copied there before MLflow is given it: so whoever goes on
from the copy repeats nothing that MLflow has already. No pictures are made again of iterations that
a checkpoint has and the copy lacks: those of the last second, or of a call that MLflow has not yet
answered.

sweeps/<id>/record/{config.yaml, environment.json, provenance.json, provenance/, ledger/,
                    previews/, initial/, anew, driver.lock}

Object stores cannot append, so the ledger is cut into pieces, named by their first byte.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from luceloop.core.errors import ConfigError, StorageError
from luceloop.core.io import locks
from luceloop.core.io.files import write_atomically
from luceloop.core.io.places import (
    Folder,
    fetch_files,
    files_in,
    listed,
    make_folder,
    open_whole,
    remove_file,
    send_files,
    write_whole,
)
from luceloop.sweeps.record.delivered import is_asked_anew, note_of
from luceloop.sweeps.record.events import IterationDone, decode
from luceloop.sweeps.record.folders import Output, SweepFolder, is_sweep_id
from luceloop.sweeps.record.mending import is_sound, set_aside
from luceloop.sweeps.record.provenance import copied_files, parse_provenance, read_provenance

logger = logging.getLogger(__name__)

BATCH = 200
"""Most events in a piece."""
PIECE = re.compile(r"ledger/(\d+)\.jsonl")
PICTURE = re.compile(r"(previews|initial)/point-\d+/[\w-]+\.(npz|png)")
ANEW = "anew"
"""A file that is there while MLflow may have rows of a ledger that was mended since."""
PROVENANCE = re.compile(r"provenance(\.json|/.+)")


@contextmanager
def mirrored(
    folder: SweepFolder, mend: Callable[[], bool] = lambda: False
) -> Iterator[Mirror | None]:
    """Hold a sweep on all machines and bring its record here and the copy together.

    Args:
        folder: of the sweep.
        mend: mends its ledger if that is damaged, and says whether it was.

    Yields:
        What copies the record from then on; None where storage and output folder are one place.

    Raises:
        ConfigError: if another machine runs the sweep, or has run it and what it recorded does not
            go on from what is on record here.
        StorageError: if the storage does not answer.
    """
    if not folder.has_own_storage:
        mend()
        yield None
        return
    record = _record(folder.storage, folder.id)
    make_folder(record)
    held = locks.lock(record / "driver", _name_of_driver(folder))
    patience = 0.0 if isinstance(record, Path) else locks.DEAD + locks.RENEW
    try:
        with held.acquire(patience):
            mirror = Mirror(folder, record)
            mirror.reconcile(mend)
            yield mirror
            mirror.settle()
    except Timeout:
        raise ConfigError("SWEEP", folder.id, "is being run on another machine") from None


def _name_of_driver(folder: SweepFolder) -> str:
    """Of whichever process runs the sweep from this folder: there is one at a time."""
    file = folder.path / "driver"
    if not file.exists():
        write_atomically(uuid.uuid4().hex, file)
    return file.read_text()


class Mirror:
    """Copies the record of one sweep as it grows."""

    def __init__(self, folder: SweepFolder, record: Folder) -> None:
        self._folder, self._there = folder, record
        self._bytes = 0
        self.events = 0
        """Events of the ledger that have been copied, with their files."""
        self.error = ""
        """Why the last copy failed; empty if it did not."""
        self._begun = False
        self._copied: set[str] = set()
        """Files that the copy has; those of an iteration never change."""
        self._is_marked = False
        """Whether the copy says that MLflow is to be given everything anew."""
        self._copying = threading.Lock()
        self.answered = time.monotonic()
        """When the storage last took something."""

    def reconcile(self, mend: Callable[[], bool] = lambda: False) -> None:
        """Take over what only the copy has, and note what it has.

        Of two records one of which is damaged the other one counts. One that is damaged in both
        places is mended here, and copied anew.

        Args:
            mend: see `mirrored`.

        Raises:
            ConfigError: if neither ledger is the beginning of the other, or a piece is missing.
        """
        found = files_in(self._there)
        self._is_marked = ANEW in found
        if self._is_marked:
            note_of(self._folder).ask_anew()
        there = _ledger_of(found, self._folder.id)
        here = self._read_here()
        if not there.startswith(here) and not here.startswith(there):
            here, there = self._without_damage(found, here, there)
        if not there.startswith(here) and not here.startswith(there):
            reason = f"was run on another machine, too, whose record in {self._there} is another"
            raise ConfigError("SWEEP", self._folder.id, reason)
        self._take_provenance(found)
        self._copied = {place for place in found if PICTURE.fullmatch(place)}
        if len(there) > len(here):
            logger.warning("reading what is on record in %s", self._there)
            files = {found[place]: self._folder.path / place for place in self._copied}
            fetch_files({there: here for there, here in files.items() if not here.exists()})
            write_atomically(there, self._folder.ledger)
        was_mended = mend()
        self._mark()
        if was_mended:
            there = self._read_here()
            self._replace(found, there)
        self._bytes, self.events = len(there), there.count(b"\n")

    def _read_here(self) -> bytes:
        """The whole lines of the ledger in this folder."""
        here = self._folder.ledger.read_bytes() if self._folder.ledger.exists() else b""
        return here[: here.rfind(b"\n") + 1]

    def _without_damage(
        self, found: Mapping[str, Folder], here: bytes, there: bytes
    ) -> tuple[bytes, bytes]:
        """Both ledgers, after the sound one has taken the place of the damaged one."""
        if is_sound(there) and not is_sound(here):
            aside, record = set_aside(self._folder, here), self._there
            logger.warning("the ledger is damaged, and kept as %s; %s has it whole", aside, record)
            note_of(self._folder).ask_anew()
            write_atomically(b"", self._folder.ledger)
            return b"", there
        if is_sound(here) and not is_sound(there):
            logger.warning("the copy of the ledger in %s is damaged, and made anew", self._there)
            self._replace(found, here)
            return here, here
        return here, there

    def _replace(self, found: Mapping[str, Folder], ledger: bytes) -> None:
        """Write the whole copy of the ledger anew: as one piece, the last one to be there."""
        for place in sorted(filter(PIECE.fullmatch, found), reverse=True):
            remove_file(found[place])
        make_folder(self._there / "ledger")
        write_whole(ledger, self._there / "ledger" / f"{0:015d}.jsonl")

    def _mark(self) -> None:
        """Have the copy say whether MLflow is to be given everything anew, as is noted here.

        Whoever goes on from it has no note of this machine.
        """
        wanted, place = is_asked_anew(self._folder), self._there / ANEW
        if wanted and not self._is_marked:
            write_whole(b"", place)
        elif self._is_marked and not wanted:
            remove_file(place)
        self._is_marked = wanted

    def settle(self) -> None:
        """Bring the copy up to what MLflow has been given since the last copy was made."""
        if self._is_marked and not is_asked_anew(self._folder):
            self.try_copy()

    def _take_provenance(self, found: Mapping[str, Folder]) -> None:
        """Take over what is on record of the user's files, if the copy has more of it."""
        file = found.get(self._folder.provenance.name)
        if file is None:
            return
        with open_whole(file) as opened:
            content = opened.read()
        here = read_provenance(self._folder)
        if here is None or len(here.accepted) < len(parse_provenance(json.loads(content)).accepted):
            places = [place for place in found if PROVENANCE.fullmatch(place)]
            fetch_files({found[place]: self._folder.path / place for place in places})

    def try_copy(self) -> bool:
        """Copy what is new; False, with `error` set, if that failed: it can be tried again.

        Of two threads that ask at once, one is told at once that nothing was copied for it.
        """
        if not self._copying.acquire(blocking=False):
            return False
        try:
            self.copy()
        except Exception as error:  # every filesystem has its own
            if not self.error:
                logger.warning("the record is not copied until its storage answers: %s", error)
            self.error = str(error) or type(error).__name__
            return False
        else:
            self.error = ""
            return True
        finally:
            self._copying.release()

    def copy(self) -> None:
        """Copy what is new; raises whatever the storage does, after which it can be tried again."""
        if not self._begun:
            alone = (self._folder.config_file, self._folder.environment)
            files = [file for file in alone if file.exists()] + copied_files(self._folder)
            places = {file: file.relative_to(self._folder.path).as_posix() for file in files}
            send_files({file: self._there / place for file, place in places.items()})
            make_folder(self._there / "ledger")
            self._begun = True
        if self._is_marked:
            self._mark()
        if not self._folder.ledger.exists():
            return
        with self._folder.ledger.open("rb") as ledger:
            ledger.seek(self._bytes)
            new = ledger.read()
        lines = new[: new.rfind(b"\n") + 1].splitlines(keepends=True)
        for first in range(0, len(lines), BATCH):
            self._copy_events(lines[first : first + BATCH])

    def _copy_events(self, lines: Sequence[bytes]) -> None:
        """Copy the files of events, then the events."""
        files: dict[str, Path] = {}
        for event in (decode(line).event for line in lines):
            if isinstance(event, IterationDone):
                for file, _ in self._folder.iteration_files(event.point, event.iteration):
                    files[file.relative_to(self._folder.path).as_posix()] = file
        new = {place: file for place, file in files.items() if place not in self._copied}
        send_files({file: self._there / place for place, file in new.items() if file.exists()})
        piece = b"".join(lines)
        write_whole(piece, self._there / "ledger" / f"{self._bytes:015d}.jsonl")
        self._copied |= new.keys()
        self._bytes += len(piece)
        self.events += len(lines)
        self.answered = time.monotonic()


def find_or_fetch(output: Output, wanted: str) -> SweepFolder:
    """The sweep that `wanted` names; begun from its copy, if it is a whole id not known here.

    Raises:
        ConfigError: if there is none.
        StorageError: if the storage does not answer.
    """
    known = {sweep.id for sweep in output.sweeps()}
    if output.named_storage is None or not is_sweep_id(wanted) or wanted in known:
        return output.find(wanted)
    record = _record(output.named_storage, wanted)
    try:
        with open_whole(record / "config.yaml") as file:
            config = file.read()
    except FileNotFoundError:
        reason = f"is neither under {output.path} nor in {output.named_storage}"
        raise ConfigError("SWEEP", wanted, reason) from None
    folder = SweepFolder(output.path / "sweeps" / wanted)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.keep_storage(output.named_storage)
    write_atomically(config, folder.config_file)  # the last one: it makes the folder a sweep's
    return folder


def check_move(folder: SweepFolder, storage: Folder) -> None:
    """Refuse a new storage that lacks what the old one has of a sweep.

    Raises:
        ConfigError: naming both.
        StorageError: if the new one does not answer.
    """
    if _has_sweep(storage, folder.id):
        return
    try:
        is_left_behind = _has_sweep(folder.storage, folder.id)
    except (StorageError, ConfigError):  # it is gone, which may be why there is a new one
        return
    if is_left_behind:
        place = f"sweeps/{folder.id} and cache"
        allowed = f"has nothing of {folder.id}; first copy {place} there from {folder.storage}"
        raise ConfigError("--storage", str(storage), allowed)


def _has_sweep(storage: Folder, identity: str) -> bool:
    place = storage / "sweeps" / identity
    return bool(listed(place, "tune") or listed(place, "record"))


def _record(storage: Folder, identity: str) -> Folder:
    return storage / "sweeps" / identity / "record"


def _ledger_of(found: Mapping[str, Folder], identity: str) -> bytes:
    """The ledger that pieces make; a run that went on from less has written some of them again."""
    pieces = {int(match[1]): found[match[0]] for match in map(PIECE.fullmatch, found) if match}
    with tempfile.TemporaryDirectory() as temporary:
        here = {first: Path(temporary) / str(first) for first in sorted(pieces)}
        fetch_files({pieces[first]: here[first] for first in here})
        ledger = b""
        for first, file in here.items():
            if first > len(ledger):
                reason = f"lacks a part of its ledger before {pieces[first]}"
                raise ConfigError("SWEEP", identity, reason)
            if first == len(ledger):
                ledger += file.read_bytes()
    return ledger
