"""Arrays of numbers from `.npz` files, which are believed in nothing that they say of themselves.

A header may claim any shape. Nothing is allocated before it agrees with the size of the member that
it heads, that with the size of the file, and all with the memory of the machine; nothing is
unpickled.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from luceloop.core.io.memory import in_words, machine_memory

DENSEST = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
"""Bytes that a byte can stand for in a file, by the kinds of compression that NumPy writes."""
PIECE = 2**20
"""Bytes that are read at a time."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""What reads the header of a version of the format; others are of no numbers."""


def read_arrays(file: Path, names: Iterable[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of some arrays that a file holds, by name, and the names of all that it holds.

    Raises:
        ValueError: saying in one line what is wrong with the file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise ValueError("it holds several arrays of one name")
            wanted = [name for name in names if name in members]
            whole = file.stat().st_size
            return {n: _read(archive, members[n], n, whole) for n in wanted}, list(members)
    except Exception as error:  # a damaged file can fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not a readable .npz file: {reason[:300]}") from error


def _read(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, whole: int
) -> np.ndarray[Any, Any]:
    densest = DENSEST.get(info.compress_type)
    if densest is None:
        known = "neither stored nor compressed by deflate"
        raise ValueError(f"'{name}' is {known}; use np.savez or np.savez_compressed")
    if info.flag_bits & 1:
        raise ValueError(f"'{name}' is encrypted")
    if info.file_size > densest * min(info.compress_size, whole):
        raise ValueError(f"'{name}' claims {in_words(info.file_size)}, more than the file can hold")
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member, name)
        size = math.prod(shape) * dtype.itemsize
        held = info.file_size - member.tell()
        if size != held:
            said = f"has a header of {in_words(size)}, {dtype} of shape {shape}"
            raise ValueError(f"'{name}' {said}, and holds {in_words(held)}")
        if size > machine_memory():
            there = in_words(machine_memory())
            raise ValueError(f"'{name}' takes {in_words(size)}; the machine's memory is {there}")
        array = np.empty(math.prod(shape), dtype)
        _fill(member, array.view(np.uint8).data if size else memoryview(b""), name)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(member)
    if version not in HEADERS:
        raise ValueError(f"'{name}' is of version {version} of NumPy's format, which has names")
    shape, fortran, dtype = HEADERS[version](member)
    if dtype.hasobject:
        raise ValueError(f"'{name}' holds objects, and nothing is unpickled")
    return shape, fortran, dtype


def _fill(member: IO[bytes], into: memoryview, name: str) -> None:
    """Read what a member still holds, all of it: its checksum is compared at the end."""
    done = 0
    while piece := member.read(PIECE):
        into[done : done + len(piece)] = piece
        done += len(piece)
    if done < len(into):
        raise ValueError(f"'{name}' ends after {done} of {len(into)} bytes")
