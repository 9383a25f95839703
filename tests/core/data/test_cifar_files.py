"""The files of CIFAR-10: the same pixels as torchvision's, from pickles that run nothing."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luceloop.core.data.cifar10 import Cifar10Config
from luceloop.core.errors import ConfigError
from tests.support import write_cifar10


def by_torchvision(root: Path, train: bool) -> tuple[np.ndarray, list[int], list[str]]:
    """Pixels `(N, H, W, C)`, labels and names as torchvision unpickles them."""
    from torchvision.datasets import CIFAR10

    class ByPresence(CIFAR10):
        train_list = tuple((name, None) for name, _ in CIFAR10.train_list)
        test_list = tuple((name, None) for name, _ in CIFAR10.test_list)
        meta = CIFAR10.meta | {"md5": None}

    read = ByPresence(root, train)
    return read.data, list(read.targets), list(read.classes)


def in_python_2(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled it, which the published archive's are."""
    rows, wide = pixels.shape
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
    kind += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
    content += b"(K\x00tU\x01btR(K\x01(" + b"M" + struct.pack("<H", rows)
    content += b"M" + struct.pack("<H", wide) + b"t" + kind + b"\x89"
    content += b"T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    content += b"U\x06labels](" + b"".join(b"K" + bytes([label]) for label in labels) + b"eu."
    return content


def python_2(batch: dict[str, Any]) -> bytes:
    return in_python_2(np.ascontiguousarray(batch["data"]), batch["labels"])


WRITERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    f"protocol {n}": (lambda batch, n=n: pickle.dumps(batch, protocol=n)) for n in (0, 2, 4, 5)
} | {
    "Python 2": python_2,
    "columns first": lambda batch: pickle.dumps(batch | {"data": np.asfortranarray(batch["data"])}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_pixels_and_labels_are_torchvisions_to_the_bit(kind: str, tmp_path: Path):
    write_cifar10(tmp_path)
    for path in (tmp_path / "cifar-10-batches-py").glob("*_batch*"):
        path.write_bytes(WRITERS[kind](pickle.loads(path.read_bytes())))
    data = Cifar10Config(root=str(tmp_path)).build()
    for train, images in zip((True, False), data.for_classifier(), strict=True):
        pixels, labels, names = by_torchvision(tmp_path, train)
        assert torch.equal(images.pixels, torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert images.labels.tolist() == labels and data.class_names == names


class Command:
    """What a prepared archive would hold."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def opcode(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


PIXELS = np.zeros((10, 3072), np.uint8)
LABELS = list(range(10))


def batch_of(**parts: Any) -> bytes:
    return pickle.dumps({"data": PIXELS, "labels": LABELS} | parts)


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no batch that can be read"),
    "text": (b"no pickle\n", "no batch that can be read"),
    "truncated": (batch_of()[:2000], "no batch that can be read"),
    "no dict": (pickle.dumps([1, 2]), "holds no dict"),
    "no pixels": (pickle.dumps({"labels": LABELS}), "as 'data'"),
    "a list of pixels": (batch_of(data=PIXELS.tolist()), "as 'data'"),
    "pixels of another width": (batch_of(data=PIXELS[:, :-1]), "as 'data'"),
    "real pixels": (batch_of(data=PIXELS.astype(np.float32)), "as 'data'"),
    "objects": (batch_of(data=PIXELS.astype(object)), "as 'data'"),
    "a claim of many pixels": (
        in_python_2(PIXELS, LABELS).replace(b"M\x0a\x00", b"M\xff\xff"),
        "as 'data'",
    ),
    "too few labels": (batch_of(labels=LABELS[:-1]), "list of 10 whole numbers"),
    "labels beyond the classes": (batch_of(labels=[*LABELS[:-1], 10]), "from 0 to 9"),
    "labels that are texts": (batch_of(labels=list("0123456789")), "whole numbers"),
    "nested without end": (opcode(b"]" * 100_000 + b"a" * 99_999), "holds no dict"),
    "a number of many digits": (b"I" + b"9" * 6000 + b"\n.", "no batch that can be read"),
    "a name of an attribute": (opcode(b"cbuiltins\neval\n"), "holds builtins.eval"),
    "a nested name": (opcode(b"\x8c\x05numpy\x8c\x0cndarray.mean\x93"), "numpy.ndarray.mean"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_batch_is_refused_in_one_line_that_names_it(kind: str, tmp_path: Path):
    content, complaint = DAMAGED[kind]
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(ConfigError, match="data_batch_3") as error:
        Cifar10Config(root=str(tmp_path)).build()
    line = str(error.value)
    assert error.value.key == "data.root" and "\n" not in line and complaint in line


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_prepared_archive_runs_nothing(file: str, tmp_path: Path):
    write_cifar10(tmp_path)
    content = io.BytesIO()
    pickle.dump({"data": PIXELS, "labels": LABELS, "more": Command(tmp_path / "ran")}, content)
    (tmp_path / "cifar-10-batches-py" / file).write_bytes(content.getvalue())
    with pytest.raises(ConfigError, match=r"holds posix\.system, which is no array"):
        Cifar10Config(root=str(tmp_path)).build()
    assert not (tmp_path / "ran").exists()


def test_names_of_classes_that_are_none_are_refused(tmp_path: Path):
    write_cifar10(tmp_path)
    meta = tmp_path / "cifar-10-batches-py" / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": [b"cat"]}))
    with pytest.raises(ConfigError, match="label_names"):
        Cifar10Config(root=str(tmp_path)).build()
