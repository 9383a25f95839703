"""Addresses that are told of a sweep. They hold tokens, so of each no more than its host is shown.

    notify: https://hooks.example.com/services/T0/B0/secret
    notify: "@~/.config/luceloop-hook"     # a file that holds one

An address is no part of what a sweep is: it is left out of whatever is written as configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from luceloop.core.errors import ConfigError

NOBODY = "none"
"""In place of an address: nobody is told, whatever the environment says."""
VARIABLE = "LUCELOOP_NOTIFY"
"""Environment variable: the address of sweeps that name none."""
ALLOWED = "must be an http:// or https:// URL, @FILE that holds one, or none"
HIDDEN = "…"
"""Stands where an address was."""
_SETTING = re.compile(r"(?m)(\bnotify\b[\"']?\s*[:=]\s*).*://.*$")


def read_address(given: str) -> str:
    """The address that is meant by `given`: itself, what the file of `@FILE` holds, or `none`.

    Raises:
        ValueError: if it is none; what is said of it holds no secret.
    """
    text = given.strip()
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise ValueError("must be @FILE of a file that can be read, or a URL") from None
    if text != NOBODY and not _is_address(text):
        raise ValueError(ALLOWED)
    return text


def _is_address(text: str) -> bool:
    """Whether an HTTP client can post there, as far as can be told."""
    if not re.fullmatch(r"[!-~]+", text):  # printable ASCII without spaces
        return False
    try:
        parts = urlsplit(text)
        valid = parts.port is None or parts.port > 0
    except ValueError:  # of a port that is no number, or brackets that do not match
        return False
    return valid and parts.scheme in ("http", "https") and bool(parts.hostname)


def default_address() -> str:
    """The address that the environment names; empty if it names none.

    Raises:
        ConfigError: if that is no address.
    """
    given = os.environ.get(VARIABLE, "")
    return named_address(f"${VARIABLE}", given) if given else ""


def named_address(key: str, given: str) -> str:
    """The address that `given` means; see `read_address`.

    Raises:
        ConfigError: naming `key`, if it is none.
    """
    try:
        return read_address(given)
    except ValueError as error:
        raise ConfigError(key, HIDDEN, str(error)) from None


def host_of(address: str) -> str:
    """What may be shown of an address."""
    return urlsplit(address).hostname or HIDDEN


def without_address(text: str, address: str) -> str:
    """A text, such as code of the user's, without an address; it is as it was if that is empty."""
    return text.replace(address, HIDDEN) if address and address != NOBODY else text


def without_addresses(text: str, address: str) -> str:
    """The same, such as of a diff, and without whatever else is set as `notify` in it."""
    return _SETTING.sub(rf"\1{HIDDEN}", without_address(text, address))


def hidden_in(command: Sequence[str], address: str) -> list[str]:
    """The arguments of a command without the addresses in them."""
    before = ["", *command]
    return [
        HIDDEN if option == "--notify" else without_addresses(argument, address)
        for option, argument in zip(before, command, strict=False)
    ]
