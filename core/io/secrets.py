"""Which files look like secrets: by their names, or because a private key is in them."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

NAMES = re.compile(
    r"id_(rsa|dsa|ecdsa|ed25519)(?!.*\.pub$).*"
    r"|.+\.(pem|key|p12|pfx|ppk|jks|keystore|kdbx|tfstate|env|gpg|asc)"
    r"|.*(credential|kubeconfig|service[-_]account|htpasswd|passwd|netrc|pgpass).*"
    r"|(.*[-_.])?(secrets?|tokens?|passwords?|api[-_]?keys?)"
    r"([-_.](json|ya?ml|toml|ini|cfg|conf|txt|csv|env|bak|old))*",
    re.IGNORECASE,
)
"""Names of files in which people and programs keep secrets."""
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY")
LOOKED_AT = 4096
"""Bytes of a file in which such a line would stand."""


def is_secret_name(file: PurePath) -> bool:
    """Whether a file is called as secrets are; code is taken for code, whatever it is called."""
    return file.suffix != ".py" and NAMES.fullmatch(file.name) is not None


def looks_secret(file: Path) -> bool:
    """Whether a file seems to hold a secret."""
    if is_secret_name(file):
        return True
    with file.open("rb") as opened:
        return PRIVATE_KEY.search(opened.read(LOOKED_AT)) is not None
