"""The files of CIFAR-10, read by an unpickler that knows arrays and plain values, and runs nothing.

They are pickles, so whoever prepares one decides what unpickling calls. Here names of functions are
stand-ins of ours, which note what an array is made of: pixels are then taken from the bytes.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luceloop.core.data.labelled import LabelledImages

FOLDER = "cifar-10-batches-py"
"""What the archive unpacks to."""
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)
META = "batches.meta"
SHAPE = (3, 32, 32)
"""Of an image: a red, a green and a blue plane, each row by row."""


class BatchError(ValueError):
    """A file that holds no images of CIFAR-10; its message is one line."""


@dataclass
class _Kind:
    """What a pickle says of the type of an array's numbers."""

    name: Any
    rest: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        """Alignment and order of bytes, which single bytes have none of."""


@dataclass
class _Array:
    """What a pickle says of an array."""

    state: Any = field(default=None)

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _new_array(*_: Any) -> _Array:
    return _Array()


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any = "C") -> _Array:
    return _Array((1, shape, kind, order == "F", content))


def _new_kind(name: Any, *rest: Any) -> _Kind:
    return _Kind(name, rest)


def _encode(text: Any, encoding: Any = "") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("holds bytes in an encoding that is not latin1")
    return text.encode("latin1")


KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _new_kind,
    ("_codecs", "encode"): _encode,
}
"""What stands for the names that an array's pickle holds."""
for _package in ("numpy.core", "numpy._core"):
    KNOWN[f"{_package}.multiarray", "_reconstruct"] = _new_array
    KNOWN[f"{_package}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    """Knows arrays, bytes, texts, numbers, lists and dicts."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in; whatever else a pickle names is refused."""
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"holds {module}.{name}, which is no array")
        return KNOWN[module, name]


def read_images(root: Path, files: tuple[str, ...], classes: int) -> LabelledImages:
    """The images of some batches, in order.

    Args:
        root: the folder that holds `cifar-10-batches-py`.
        files: names of batches.
        classes: how many there are.

    Raises:
        BatchError: naming the file and what is wrong with it.
        FileNotFoundError: if one is not there.
    """
    parts = [_batch(root / FOLDER / file, classes) for file in files]
    pixels = torch.cat([pixels for pixels, _ in parts])
    return LabelledImages(pixels, torch.tensor([each for _, labels in parts for each in labels]))


def read_class_names(root: Path) -> list[str]:
    """What the classes are called.

    Raises:
        BatchError: naming the file and what is wrong with it.
        FileNotFoundError: if it is not there.
    """
    path = root / FOLDER / META
    names = _unpickled(path).get("label_names")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise BatchError(f"{path} holds no list of names as 'label_names'")
    return names


def _batch(path: Path, classes: int) -> tuple[torch.Tensor, list[int]]:
    content = _unpickled(path)
    pixels = _pixels(path, content.get("data"))
    labels = content.get("labels")
    whole = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not isinstance(labels, list) or not whole or len(labels) != len(pixels):
        raise BatchError(f"{path} holds no list of {len(pixels)} whole numbers as 'labels'")
    if labels and not 0 <= min(labels) <= max(labels) < classes:
        raise BatchError(f"{path} holds labels that are not from 0 to {classes - 1}")
    return pixels, labels


def _pixels(path: Path, found: Any) -> torch.Tensor:
    """uint8 `(N, 3, 32, 32)`."""
    wide = int(np.prod(SHAPE))
    refused = BatchError(f"{path} holds no bytes of shape (N, {wide}) as 'data'")
    if not isinstance(found, _Array):
        raise refused
    match found.state:
        case (_, (int(count), int(width)), _Kind(name="u1"), order, bytes() | bytearray() | str()):
            content = found.state[4]
        case _:
            raise refused
    flat = content.encode("latin1") if isinstance(content, str) else bytes(content)
    if width != wide or count < 1 or len(flat) != count * wide:
        raise refused
    rows = np.frombuffer(flat, np.uint8).reshape((count, wide), order="F" if order else "C")
    return torch.from_numpy(np.array(rows, order="C").reshape(count, *SHAPE))


def _unpickled(path: Path) -> dict[Any, Any]:
    content = path.read_bytes()
    try:
        # As Python 2 wrote them, whose texts are bytes.
        found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged file can fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BatchError(f"{path} is no batch that can be read: {reason[:200]}") from None
    if not isinstance(found, dict):
        raise BatchError(f"{path} is no batch that can be read: it holds no dict")
    return found
