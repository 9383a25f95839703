"""FID by the Inception network of torch-fidelity; its weights are random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3

from luceloop.core.classifier.inception import Inception
from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError
from luceloop.core.loop.loop import Loop


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like torch-fidelity's, of a network that was never trained."""
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    network = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(
            feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {}
        )
        patch.setattr(network, "load_state_dict", lambda *_: None)
        module = network("random", ["2048"])
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):  # so that an image leaves a trace in the last layer
                nn.init.kaiming_normal_(layer.weight)
        torch.save(module.state_dict(), file)
    return file


def brightness(x: Tensor) -> Tensor:
    """A reward without a classifier."""
    return x.flatten(1).mean(1)


@pytest.mark.slow
def test_the_frechet_distance_is_that_of_the_networks_features(weights, tmp_path):
    random = np.random.default_rng(0)
    for index in range(12):
        folder = tmp_path / f"class{index % 2}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{index}.png")
    config = parse_config(
        {
            "name": "fid",
            "data": {"name": "image_folder", "root": str(tmp_path), "image_size": 8},
            "learner": {"name": "empirical"},
            "reward": {"name": "tests.core.classifier.test_inception:brightness"},
            "quality": {"inception": str(weights), "samples": 10},
            "iterations": 0,
            "lam": 0,
            "pool_size": 10,
            "seeds": [3],
            "sampling": {"shard_size": 4, "preview": 10},
        }
    ).point
    loop = Loop(config)
    [last] = loop.run()  # the pool repeats images, and leaves some out
    inception = loop.scorer.inception
    assert inception is not None and loop.dataset.images is not None
    real = inception(loop.dataset.images.scaled(slice(None)))
    assert real.shape == (12, 2048)
    expected = distance(inception(last.preview[0]).double().numpy(), real.double().numpy())
    assert expected > 1e-3
    assert float(last.metrics["frechet_distance"][0]) == pytest.approx(expected, rel=1e-6)


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """Of few samples: tr (CC')^½ is the nuclear norm of the matrix of their inner products."""
    u, v = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    shift = ((x.mean(0) - y.mean(0)) ** 2).sum()
    return float(shift + (u**2).sum() + (v**2).sum() - 2 * np.linalg.norm(u @ v.T, "nuc"))


@pytest.mark.slow
def test_grey_images_are_seen_as_in_colour(weights):
    inception = Inception(str(weights))
    grey = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(inception(grey), inception(grey.expand(-1, 3, -1, -1)))


class Pickled:
    """What no file of weights holds."""


def test_files_that_are_no_such_network_are_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        Inception(str(tmp_path / "missing.pth"))
    for content in (Pickled(), {"weight": torch.zeros(1)}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(ConfigError, match="is no such network") as error:
            Inception(str(tmp_path / "other.pth"))(torch.zeros(1, 3, 8, 8))
        assert "\n" not in str(error.value)
