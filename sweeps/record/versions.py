"""The version of what a sweep's folder holds: its layout, its configuration, its ledger.

It stands in the first line of `config.yaml`, a comment, so that it goes wherever the configuration
goes. What older versions wrote is read by migrations; what newer ones wrote is not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

SCHEMA = 2
"""Raised whenever an older Luceloop would misread a sweep of this one.

1: as it was before there were versions.
2: lines of the ledger have numbers and checksums.
"""
_LINE = re.compile(r"# luceloop schema (\d{1,9})$", re.MULTILINE)

Migration = Callable[[Mapping[str, Any]], Mapping[str, Any]]

MIGRATIONS: dict[int, Migration] = {1: lambda plain: plain}
"""By version, what makes its configuration one of the next version: a key that is renamed, say."""


def headed(text: str) -> str:
    """A configuration's text that says which version wrote it."""
    return f"# luceloop schema {SCHEMA}\n{text}"


def schema_of(text: str) -> int:
    """The version that wrote a configuration's text."""
    found = _LINE.match(text)
    return int(found[1]) if found else 1


def migrated(plain: Mapping[str, Any], schema: int) -> Mapping[str, Any]:
    """A configuration of an older version as this one has it.

    Args:
        plain: its plain values.
        schema: its version, which is not newer than `SCHEMA`.
    """
    for version in range(schema, SCHEMA):
        plain = MIGRATIONS[version](plain)
    return plain
