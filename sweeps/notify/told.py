"""What has been told of a sweep, so that a run which goes on with it does not repeat that."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from luceloop.core.io.files import write_atomically

logger = logging.getLogger(__name__)


@dataclass
class Told:
    """What has been told of a sweep."""

    events: int = 0
    """Events of its ledger that have been looked at."""
    failures: int = 0
    """Points of which it was told that they failed."""
    claims: dict[str, str] = field(default_factory=dict)
    """What was told of claims, by their place in the configuration."""

    def write(self, file: Path) -> None:
        """Put that on record."""
        write_atomically(json.dumps(asdict(self), ensure_ascii=False), file, durable=False)


def read_told(file: Path) -> Told | None:
    """What is on record; None if nobody has been told anything, or it cannot be read."""
    if not file.exists():
        return None
    try:
        return Told(**json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        logger.warning("%s is damaged; what is told from now on is new: %s", file, error)
        return None
