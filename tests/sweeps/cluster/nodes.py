"""The process of a Ray cluster on this machine, and what it is told."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Literal

TOKEN = "token-of-the-cluster-0123456789abcdef"


@dataclass(frozen=True)
class Nodes:
    """The cluster's process."""

    process: subprocess.Popen[str]
    address: str

    def do(self, what: Literal["kill", "add"]) -> None:
        """End the oldest worker node as a power cut would, or start one."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"
