"""The dataset `cifar10`: small photographs in ten classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from luceloop.core.data.base import DatasetConfig
from luceloop.core.data.images import ImageData
from luceloop.core.data.labelled import LabelledImages
from luceloop.core.errors import ConfigError
from luceloop.core.fields import Directory, PositiveInt

CIFAR10_FOLDER = "cifar-10-batches-py"
"""What the archive unpacks to."""

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


class Cifar10Config(DatasetConfig):
    """CIFAR-10's 50,000 training images, 32×32 pixels."""

    name: Literal["cifar10"] = "cifar10"
    root: Directory = "data"
    """The folder that holds cifar-10-batches-py; kept as an absolute path."""
    download: bool = False
    """Whether torchvision may download the archive there."""
    size: PositiveInt | None = None
    """Real samples of each seed, drawn without replacement; all if not given."""

    def build(self) -> ImageData:
        """CIFAR-10 (Krizhevsky 2009) as torchvision reads it.

        Raises:
            ConfigError: if the archive is neither there nor may be downloaded.
        """
        train, test = _read(self.root, self.download)
        images, held_out = (
            LabelledImages(
                torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
                torch.tensor(part.targets),
            )
            for part in (train, test)
        )
        return ImageData(images, list(train.classes), self.size, held_out)

    def class_names(self) -> list[str]:
        """The ten classes, as the archive lists them."""
        return list(CLASSES)

    def identity(self) -> dict[str, Any]:
        """One and the same archive, wherever it lies."""
        return self.model_dump() | {"root": None, "download": None}

    def folders(self) -> tuple[str, ...]:
        """The archive's folder; none where a node may download it, which checks it."""
        return () if self.download else (str(Path(self.root) / CIFAR10_FOLDER),)


def _read(root: str, download: bool) -> list[Any]:
    """The training and the test set."""
    from torchvision.datasets import CIFAR10  # seconds, that only images need

    class ByPresence(CIFAR10):  # type: ignore[misc]
        """A download is checked by its digest; batches that lie there need not be the original."""

        train_list = tuple((name, None) for name, _ in CIFAR10.train_list)
        test_list = tuple((name, None) for name, _ in CIFAR10.test_list)
        meta = CIFAR10.meta | {"md5": None}

    try:
        return [ByPresence(root, train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        allowed = (
            f"holds no CIFAR-10 ({str(error).splitlines()[0]}): unpack cifar-10-python.tar.gz to "
            f"{Path(root) / CIFAR10_FOLDER}, or set data.download=true"
        )
        raise ConfigError("data.root", root, allowed) from error
