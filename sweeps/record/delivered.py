"""The delivery note: how much of a ledger which experiment has."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from luceloop.core.io.files import write_atomically
from luceloop.sweeps.record.folders import SweepFolder

logger = logging.getLogger(__name__)


class DeliveryNote:
    """What the store has of a ledger, noted in a file: too little when unsure, never too much."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.experiment = ""
        """Of which experiment this is true; another one has nothing."""
        self.rows = 0
        """Events whose rows it has."""
        self.files = 0
        """Events whose files it has."""
        self.anew = False
        """Whether the store is to forget what it has, since the ledger was mended: the time of a
        row that is computed again is another, and both would stand there."""

    def read(self, events: int) -> None:
        """Read what was noted, unless it cannot be true of a ledger of so many events."""
        try:
            noted = json.loads(self._path.read_text())
            experiment, rows, files = noted["experiment"], int(noted["rows"]), int(noted["files"])
            self.anew = bool(noted.get("anew"))
        except (OSError, ValueError, TypeError, KeyError):
            return  # all is delivered again, which changes nothing
        if min(rows, files) >= 0 and max(rows, files) <= events:
            self.experiment, self.rows, self.files = experiment, rows, files

    def write(
        self, experiment: str | None = None, rows: int | None = None, files: int | None = None
    ) -> None:
        """Note what has changed."""
        self.experiment = self.experiment if experiment is None else experiment
        self.rows = self.rows if rows is None else rows
        self.files = self.files if files is None else files
        try:
            self._write(durable=False)
        except OSError as error:  # the next process delivers again what this one has
            logger.debug("not noted what was delivered: %s", error)

    def ask_anew(self) -> None:
        """Note that all is to be delivered anew, once what the store has is deleted.

        That must stand there before the ledger is another one.

        Raises:
            OSError: if it cannot be noted.
        """
        self.experiment, self.rows, self.files, self.anew = "", 0, 0, True
        self._write(durable=True)

    def _write(self, *, durable: bool) -> None:
        content = {"experiment": self.experiment, "rows": self.rows, "files": self.files}
        content |= {"anew": True} if self.anew else {}
        write_atomically(json.dumps(content), self._path, durable=durable)


def note_of(folder: SweepFolder) -> DeliveryNote:
    """The delivery note of a sweep, still to be read."""
    return DeliveryNote(folder.path / "delivered")


def is_asked_anew(folder: SweepFolder) -> bool:
    """Whether what the store has of a sweep is to be deleted and delivered anew."""
    note = note_of(folder)
    note.read(0)
    return note.anew
