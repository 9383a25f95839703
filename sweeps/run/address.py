"""Where a sweep's Ray session is to be, checked before anything is made or started."""

from __future__ import annotations

import os
import socket

import ray

from luceloop.core.errors import ConfigError, one_line

LOCAL = "local"
"""The address of a session that is started here."""
ANSWER = 10.0
"""Seconds that the address of a session may take to be reached."""
LONGEST_PLACE = 39
"""Bytes of the path under which Ray keeps its sockets, which may have 107 in all."""


def session_address() -> str:
    """The address of the session that `$RAY_ADDRESS` names, else `LOCAL`."""
    return os.environ.get("RAY_ADDRESS") or LOCAL


def check_session() -> None:
    """Refuse an environment in which Ray could neither be started nor joined.

    Raises:
        ConfigError: naming the variable.
    """
    if ray.is_initialized():
        return
    address = session_address()
    if address == LOCAL:
        _check_folder()
    elif address != "auto":
        _check_answers(address)


def _check_folder() -> None:
    """Refuse a folder for temporary files in which Ray's sockets cannot lie."""
    for name in ("RAY_TMPDIR", "TMPDIR"):  # Ray takes the first that is set
        place = os.environ.get(name)
        if not place:
            continue
        if not (os.path.isdir(place) and os.access(place, os.W_OK)):
            raise ConfigError(name, place, "must be a folder that can be written")
        if len(os.fsencode(os.path.abspath(place))) > LONGEST_PLACE:
            allowed = f"must have at most {LONGEST_PLACE} bytes, as Ray's sockets lie in it: "
            allowed += "set RAY_TMPDIR to a shorter one, such as /tmp"
            raise ConfigError(name, place, allowed)
        return


def _check_answers(address: str) -> None:
    """Refuse an address at which nobody answers."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16) or "/" in host:
        allowed = "must read HOST:PORT, auto or local"
        raise ConfigError("RAY_ADDRESS", address, allowed)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER) as connection:
            speaks = os.environ.get("RAY_USE_TLS", "0") != "0" or _speaks_http2(connection)
    except OSError as error:
        allowed = f"no Ray answers there: {one_line(error)}"
        raise ConfigError("RAY_ADDRESS", address, allowed) from error
    if not speaks:
        raise ConfigError("RAY_ADDRESS", address, "something else than Ray answers there")


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether a server greets as HTTP/2 has it (RFC 9113, 3.4), on which Ray's servers are built.

    Ray's own client would ask anything else for minutes.
    """
    settings = b"\0\0\0\4\0\0\0\0\0"  # an empty frame of type 4
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    return connection.recv(9)[3:4] == settings[3:4]
