"""The dataset `digits`: handwritten digits that ship with scikit-learn."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from luceloop.core.data.base import DatasetConfig
from luceloop.core.data.images import ImageData
from luceloop.core.data.labelled import LabelledImages
from luceloop.core.fields import PositiveInt


class DigitsConfig(DatasetConfig):
    """scikit-learn's 1,797 handwritten digits, 8×8 pixels."""

    name: Literal["digits"] = "digits"
    size: PositiveInt | None = None
    """Real samples of each seed, drawn without replacement; all if not given."""

    def build(self) -> ImageData:
        """The digits (UCI), grey."""
        from sklearn import datasets  # seconds, that only these data need

        digits = datasets.load_digits()
        pixels = torch.from_numpy(digits.images.astype(np.uint8))[:, None]
        labels = torch.from_numpy(digits.target.astype(np.int64))
        return ImageData(LabelledImages(pixels, labels, highest=16), self.class_names(), self.size)

    def class_names(self) -> list[str]:
        """The digits."""
        return [str(digit) for digit in range(10)]
