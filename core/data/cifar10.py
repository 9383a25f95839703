"""The dataset `cifar10`: small photographs in ten classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from luceloop.core.data import cifar_files
from luceloop.core.data.base import DatasetConfig
from luceloop.core.data.images import ImageData
from luceloop.core.errors import ConfigError
from luceloop.core.fields import Directory, PositiveInt

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
        """CIFAR-10 (Krizhevsky 2009), as torchvision has it.

        Raises:
            ConfigError: if the archive is neither there nor may be downloaded, or is damaged.
        """
        root, files = Path(self.root), (*cifar_files.TRAIN, *cifar_files.TEST, cifar_files.META)
        missing = [name for name in files if not (root / cifar_files.FOLDER / name).is_file()]
        if missing and self.download:
            _download(self.root)
        try:
            names = cifar_files.read_class_names(root)
            images, held_out = (
                cifar_files.read_images(root, part, len(names))
                for part in (cifar_files.TRAIN, cifar_files.TEST)
            )
        except cifar_files.BatchError as error:
            raise ConfigError("data.root", self.root, str(error)) from error
        except OSError as error:
            raise _lacking(self.root, f"{error.filename}: {error.strerror}") from error
        return ImageData(images, names, self.size, held_out)

    def class_names(self) -> list[str]:
        """The ten classes, as the archive lists them."""
        return list(CLASSES)

    def identity(self) -> dict[str, Any]:
        """One and the same archive, wherever it lies."""
        return self.model_dump() | {"root": None, "download": None}

    def folders(self) -> tuple[str, ...]:
        """The archive's folder; none where a node may download it, which checks it."""
        return () if self.download else (str(Path(self.root) / cifar_files.FOLDER),)


def _download(root: str) -> None:
    """Have torchvision fetch the archive, which it checks by its digest, and unpack it."""
    from torchvision.datasets import CIFAR10  # seconds, that only images need
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        download_and_extract_archive(
            CIFAR10.url, root, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
        )
    except (RuntimeError, OSError) as error:
        raise _lacking(root, str(error).splitlines()[0]) from error


def _lacking(root: str, reason: str) -> ConfigError:
    allowed = (
        f"holds no CIFAR-10 ({reason}): unpack cifar-10-python.tar.gz to "
        f"{Path(root) / cifar_files.FOLDER}, or set data.download=true"
    )
    return ConfigError("data.root", root, allowed)
