"""The state of the user's folder in git: its commit, and what is not committed of it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 2**20
"""Bytes of a diff that are kept."""
TRAVELLED = "LUCELOOP_REVISION"
"""Environment variable: the file of the revision of a folder that came without its repository."""


@dataclass(frozen=True)
class Revision:
    """What a folder has checked out.

    Example:
        Revision("94c53d3…", "diff --git a/my_rewards.py b/my_rewards.py…")
    """

    commit: str
    """The commit's full hash."""
    diff: str
    """What differs from it in files that git tracks, cut off after `MOST_BYTES`."""

    @property
    def is_dirty(self) -> bool:
        """Whether a file that git tracks differs from the commit."""
        return bool(self.diff)

    def dump(self) -> str:
        """The revision as text, for `revision_of` on another machine."""
        return json.dumps(dataclasses.asdict(self))


def revision_of(folder: Path) -> Revision | None:
    """What a folder has checked out; None where there is no git, no repository or no commit."""
    travelled = os.environ.get(TRAVELLED)
    if travelled:
        return Revision(**json.loads(Path(travelled).read_text()))
    commit = _git(folder, "rev-parse", "--verify", "HEAD").strip()
    if not commit:
        return None
    diff = _git(folder, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD")
    return Revision(commit, diff)


def _git(folder: Path, *arguments: str) -> str:
    """What git prints, up to `MOST_BYTES`; nothing where it fails."""
    quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", "-C", str(folder), *arguments]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        with subprocess.Popen(command, stdout=pipe, stderr=nothing, env=quiet) as process:
            assert process.stdout is not None
            text = process.stdout.read(MOST_BYTES + 1)
            if len(text) > MOST_BYTES:
                process.kill()
                return text[:MOST_BYTES].decode(errors="replace") + "\n[cut off here]\n"
    except OSError:  # there is no git
        return ""
    return text.decode(errors="replace") if process.returncode == 0 else ""
