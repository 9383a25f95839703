"""The dataset `image_folder`: a user's own images, a folder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from luceloop.core.data.base import DatasetConfig
from luceloop.core.data.images import ImageData
from luceloop.core.data.labelled import LabelledImages
from luceloop.core.errors import ConfigError
from luceloop.core.fields import AtMost, Directory, PositiveInt
from luceloop.core.io.fingerprints import folder_digest
from luceloop.core.io.memory import in_words, machine_memory


class ImageFolderConfig(DatasetConfig):
    """A folder with a folder of images for each class."""

    name: Literal["image_folder"] = "image_folder"
    root: Directory
    """The folder; kept as an absolute path."""
    image_size: Annotated[PositiveInt, AtMost(1024)] = 32
    """Pixels of a side; images are resized and cropped to squares, in colour."""
    size: PositiveInt | None = None
    """Real samples of each seed, drawn without replacement; all if not given."""

    def build(self) -> ImageData:
        """The images, cropped to squares and resized.

        Raises:
            ConfigError: if there are no images.
        """
        from torchvision.datasets import ImageFolder  # seconds, that only images need
        from torchvision.transforms.v2 import CenterCrop, Compose, PILToTensor, Resize

        size = self.image_size
        transform = Compose([Resize(size), CenterCrop(size), PILToTensor()])
        try:
            folder = ImageFolder(self.root, transform)
            self._check_size(len(folder))
            pixels = torch.stack([image for image, _ in folder])
        except ConfigError:
            raise
        except Exception as error:  # a damaged image can fail in any way
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            allowed = f"needs a folder of images for each class: {reason}"
            raise ConfigError("data.root", self.root, allowed) from error
        images = LabelledImages(pixels, torch.tensor(folder.targets))
        return ImageData(images, folder.classes, self.size)

    def _check_size(self, count: int) -> None:
        """Refuse images of so many pixels that memory cannot hold them, before any is made."""
        takes, there = 3 * count * self.image_size**2, machine_memory()
        if takes > there:
            allowed = f"makes {count} images of {in_words(takes)} in all; this machine has "
            raise ConfigError("data.image_size", self.image_size, allowed + in_words(there))

    def class_names(self) -> list[str]:
        """The names of the folders; none where they are not on this machine."""
        root = Path(self.root)
        found = root.iterdir() if root.is_dir() else ()
        return sorted(each.name for each in found if each.is_dir())

    def identity(self) -> dict[str, Any]:
        """The names, sizes and times of the files."""
        return self.model_dump() | {"root": folder_digest(Path(self.root))}

    def folders(self) -> tuple[str, ...]:
        """The folder of images."""
        return (self.root,)
