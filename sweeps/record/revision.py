"""The state of the user's folder in git: its commit, and what is not committed of it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luceloop.core.io.secrets import PRIVATE_KEY, is_secret_name, looks_secret

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
    """What differs from it in files that git tracks, cut off after `MOST_BYTES`.

    Of files that look like secrets it says no more than their names.
    """

    @property
    def is_dirty(self) -> bool:
        """Whether a file that git tracks differs from the commit."""
        return bool(self.diff)

    def dump(self) -> str:
        """The revision as text, for `revision_of` on another machine."""
        return json.dumps(dataclasses.asdict(self))


def revision_of(folder: Path, *, alone: bool = False) -> Revision | None:
    """What a folder has checked out; None where there is no git, no repository or no commit.

    Args:
        folder: the user's folder.
        alone: whether what differs elsewhere in its repository is left out, as where the folder
            travels alone.
    """
    travelled = os.environ.get(TRAVELLED)
    if travelled:
        return Revision(**json.loads(Path(travelled).read_text()))
    commit = _git(folder, "rev-parse", "--verify", "HEAD").strip()
    if not commit:
        return None
    return Revision(commit, _diff(folder, ["."] if alone else [":/"]))


def _diff(folder: Path, places: Sequence[str]) -> str:
    """What differs from the commit, without the sections of files that look like secrets."""
    diff = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
    names = _git(folder, *diff, "--name-only", "-z", "HEAD", "--", *places).split("\0")
    top = Path(_git(folder, "rev-parse", "--show-toplevel").removesuffix("\n"))
    secret = [name for name in names if name and _looks_secret(top / name)]
    others = [f":(top,exclude,literal){name}" for name in secret]
    text = _git(folder, *diff, "HEAD", "--", *places, *others)
    sections = re.split(r"^(?=diff --git )", text, flags=re.MULTILINE)
    held = [section for section in sections if PRIVATE_KEY.search(section.encode())]
    left_out = [*secret, *(section.split("\n")[0].rpartition(" b/")[2] for section in held)]
    kept = "".join(section for section in sections if section not in held)
    return "".join(f"[left out, as it looks like a secret: {each}]\n" for each in left_out) + kept


def _looks_secret(file: Path) -> bool:
    """Whether a file seems to hold a secret, be it one that is no longer there."""
    return looks_secret(file) if file.is_file() else is_secret_name(file)


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
