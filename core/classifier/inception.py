"""The Inception network whose features FID is defined by (Heusel et al. 2017, arXiv 1706.08500).

The network and its resizing are torch-fidelity's, which agree with the original TensorFlow graph.
Its weights are the user's file: nothing is downloaded.

Axes: B images.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from luceloop.core.classifier.chunks import seen_in_chunks
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import local_file

CHUNK = {"cpu": 8, "cuda": 128}
"""Images seen at a time, by the kind of device; they are enlarged to 299×299."""
FEATURES = "2048"
"""Of the last pooling."""


class Inception:
    """Features of images; the file is read when the first are asked for."""

    def __init__(self, file: str, device: str = "cpu") -> None:
        """Name the weights.

        Raises:
            ConfigError: if there is no such file.
        """
        self.file, self.device = file, device
        self._copy = str(local_file("quality.inception", file))

    def __call__(self, x: Tensor) -> Tensor:
        """Features `(B, 2048)` of images `(B, C, H, W)` in [-1, 1], grey or in colour."""
        pixels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        [features] = seen_in_chunks(self._network, pixels, CHUNK[torch.device(self.device).type])
        return features

    def check_weights(self) -> None:
        """Refuse a file that does not hold the network.

        Raises:
            ConfigError: naming the file and what is wrong with it.
        """
        _ = self._network

    @functools.cached_property
    def _network(self) -> nn.Module:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        try:
            # torch-fidelity unpickles whatever it is given, so first see that this is safe.
            torch.load(self._copy, weights_only=True, map_location="cpu")
            network: nn.Module = FeatureExtractorInceptionV3(
                "luceloop", [FEATURES], feature_extractor_weights_path=self._copy
            )
        except Exception as error:  # a file of another kind can fail in any way
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                "quality.inception", self.file, f"is no such network: {reason}"
            ) from None
        return network.to(self.device)
