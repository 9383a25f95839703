"""Notices: what an address is told of a sweep, as JSON whose keys stay the same.

A notice has no value that was measured, and nothing of the machine but its name.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal["point_failed", "claim", "end"]
"""What happened: a point failed, a claim is decided, or the run of the sweep ended."""
Status = Literal["running", "done", "failed", "interrupted", "stopped", "error"]
"""How the sweep stands: `failed` is one that ended with failed points, `error` one that broke off,
such as on a full disk, `stopped` one that stopped in order at its budget."""


@dataclass(frozen=True)
class Notice:
    """Something that is told; keys that do not apply are null.

    Example:
        Notice("end", "20251231-235959000-0af1", "mog", "done", points=9, ended=9, failed=0,
               seconds=812, text="mog is done: 9 points in 13:32.")
    """

    event: Kind
    sweep: str
    """The sweep's id."""
    name: str
    """The name of its configuration."""
    status: Status
    points: int
    """Of the sweep."""
    ended: int
    """Of them, those that have ended, be it with failure."""
    failed: int
    """Of them, those that failed or were lost."""
    seconds: float
    """Since this run of the sweep began."""
    text: str
    """All of it in a sentence, which chats show."""
    point: str | None = None
    """The point that failed, by its name."""
    claim: str | None = None
    """The claim that is decided, as its sentence."""
    verdict: str | None = None
    """What is said of it: `holds` or `contradicted`."""
    reason: str | None = None
    """Why the point or the sweep failed, or what the verdict rests on."""
    claims: Mapping[str, int] | None = None
    """At the end, how many claims are answered how."""

    def encode(self) -> bytes:
        """The notice as it is posted."""
        plain = asdict(self) | {"seconds": math.floor(self.seconds), "host": socket.gethostname()}
        return json.dumps(plain, ensure_ascii=False).encode()
