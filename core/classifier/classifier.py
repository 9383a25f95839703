"""A trained classifier: what rewards, class shares and feature distances are made of.

It is trained once, on the real data, and kept beside the trained p_0.

Axes: B images, C classes, F features.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from luceloop.core import rng
from luceloop.core.classifier.base import ClassifierConfig, Outputs
from luceloop.core.classifier.chunks import seen_in_chunks
from luceloop.core.classifier.training import accuracy, fit
from luceloop.core.data.base import DatasetConfig, RealData
from luceloop.core.errors import ConfigError
from luceloop.core.io.fingerprints import fingerprint
from luceloop.core.io.locks import lock
from luceloop.core.io.places import Folder, local_file, make_folder
from luceloop.core.io.saved import read_saved, save_atomically

logger = logging.getLogger(__name__)

SEEN = {"cpu": 32, "cuda": 128}
"""Images seen at a time, by the kind of device."""


@dataclass(frozen=True)
class Trained:
    """A classifier's weights and the share of held-out images that it gets right."""

    weights: dict[str, Tensor]
    accuracy: float


class Classifier:
    """A classifier of one dataset's images; it is loaded or trained when first asked."""

    def __init__(
        self,
        config: ClassifierConfig,
        source: DatasetConfig,
        data: RealData,
        *,
        device: str = "cpu",
        cache: Folder | None = None,
    ) -> None:
        """Name what is wanted; nothing is trained yet.

        Args:
            config: which network.
            source: the configuration of the data.
            data: the labelled images.
            device: of the network.
            cache: folder of trained classifiers; without one, it is trained anew.

        Raises:
            ConfigError: if the classifier does not fit the images, or its file is missing.
        """
        if data.images is None:
            raise ConfigError("classifier.name", config.name, "needs data of labelled images")
        config.check(data.shape)
        self.config, self.data, self.device = config, data, device
        self._source, self._cache = source, cache
        self.n_classes = len(data.class_names)

    def __call__(self, x: Tensor) -> Outputs:
        """Features and logits of images `(B, C, H, W)` in [-1, 1]."""
        return Outputs(*seen_in_chunks(self._module, x, SEEN[torch.device(self.device).type]))

    @functools.cached_property
    def trained(self) -> Trained:
        """Weights from the given file, from the cache, or from training."""
        if self.config.trained_weights is not None:
            return self._from_file(self.config.trained_weights)
        if self._cache is None:
            return self._train()
        make_folder(self._cache)
        path = self._cache / f"classifier-{self._fingerprint()}.pt"
        with lock(path).acquire():
            content = read_saved(path)
            if content is None:
                found = self._train()
                content = {"weights": found.weights, "accuracy": found.accuracy}
                content["trained_on"] = self.trained_on
                save_atomically(content, path)
        return Trained(content["weights"], content["accuracy"])

    @functools.cached_property
    def _module(self) -> nn.Module:
        module = self._build()
        module.load_state_dict(self.trained.weights)
        return module.to(self.device).eval()

    def _build(self) -> nn.Module:
        return self.config.build(self.data.shape, self.n_classes)

    @property
    def trained_on(self) -> str:
        """The device that this process would train on, and its threads of torch on a CPU."""
        kind = torch.device(self.device).type
        return f"{torch.get_num_threads()} threads of a CPU" if kind == "cpu" else kind

    def _fingerprint(self) -> str:
        """What determines the weights but for their last bits, which whoever trains first decides.

        So a classifier that a GPU took hours for is not trained again where there is none.
        """
        return fingerprint(
            {
                "torch": torch.__version__,
                "data": self._source.identity() | {"size": None},
                "classifier": self.config.model_dump(),
            }
        )

    def check_weights(self) -> None:
        """Refuse a file of weights that are not this network's.

        Raises:
            ConfigError: naming the file and what is wrong with it.
        """
        if self.config.trained_weights is not None:
            self._read(self.config.trained_weights)

    def _from_file(self, file: str) -> Trained:
        """A checkpoint of a public CIFAR-10 model zoo."""
        module = self._read(file).to(self.device).eval()
        _, held_out = self.data.for_classifier()
        share = accuracy(module, held_out, self.device)
        weights = {name: value.cpu() for name, value in module.state_dict().items()}
        return Trained(weights, share)

    def _read(self, file: str) -> nn.Module:
        """The network of a plain state dict, read without pickle."""
        copy = local_file("classifier.weights", file)
        try:
            weights = torch.load(copy, weights_only=True, map_location="cpu")
            module = self._build()
            module.load_state_dict(weights)
            if not all(value.isfinite().all() for value in module.state_dict().values()):
                raise ValueError("weights are NaN or infinite")
        except Exception as error:  # a file of another kind can fail in any way
            reason = " ".join(str(error).split())[:200]
            raise ConfigError("classifier.weights", file, f"is no such network: {reason}") from None
        return module

    def _train(self) -> Trained:
        train, held_out = self.data.for_classifier()
        seed = rng.stream(0, "classifier").initial_seed()
        with rng.global_stream(seed, self.device):  # weights, order and dropout draw from here
            module = self._build().to(self.device)
            fit(module, train, self.config, self.device)
        share = accuracy(module.eval(), held_out, self.device)
        logger.info("trained a classifier: %.2f %% of held-out images right", 100 * share)
        weights = {name: value.cpu().clone() for name, value in module.state_dict().items()}
        return Trained(weights, share)
