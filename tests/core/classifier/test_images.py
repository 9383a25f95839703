"""Images, their classifiers and rewards, on real digits and on files as CIFAR-10 has them."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets
from torch import Tensor
from torchvision.models import vgg11_bn

from luceloop.core.classifier.classifier import Classifier
from luceloop.core.classifier.vgg11 import VGG11
from luceloop.core.config.parsing import parse_config
from luceloop.core.config.parts import ResourcesConfig
from luceloop.core.config.point import PointConfig
from luceloop.core.data.images import ImageData
from luceloop.core.errors import ConfigError
from luceloop.core.loop.loop import Loop, run_loop
from luceloop.core.measures.metrics import IMAGE_QUALITY, metric_names
from luceloop.core.measures.quality import precision_recall
from luceloop.core.pool.scoring import build_scorer
from luceloop.core.theory.real_law import (
    RealRewards,
    is_recorded,
    law_key,
    real_law,
    real_rewards,
)
from tests.support import write_cifar10

DIGITS = {
    "name": "digits",
    "data": {"name": "digits"},
    "learner": {"name": "empirical"},
    "classifier": {"name": "small_cnn", "epochs": 4},
    "reward": {"name": "class_probability", "label": 3},
    "iterations": 1,
    "kept_size": 50,
    "seeds": [1, 2],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _config(**keys: object) -> PointConfig:
    return parse_config(DIGITS | keys).point


def _digits() -> ImageData:
    dataset = _config().data.build()
    assert isinstance(dataset, ImageData)
    return dataset


# --- data


def test_digits_are_scikit_learns_in_their_range():
    dataset, real = _digits(), datasets.load_digits()
    x = dataset.images.scaled(slice(None))
    assert x.shape == (1797, 1, 8, 8) and x.dtype == torch.float32
    assert torch.equal((x[:, 0] + 1) * 8, torch.from_numpy(real.images).float())
    assert x.min() == -1 and x.max() == 1
    assert dataset.images.labels.tolist() == real.target.tolist()


def test_a_seed_draws_its_own_images_without_replacement():
    dataset = _digits()
    draws = [dataset.draw(500, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    whole = dataset.draw(1797, torch.Generator().manual_seed(0)).flatten(1)
    every = dataset.images.scaled(slice(None)).flatten(1)
    assert sorted(whole.tolist()) == sorted(every.tolist())


def test_held_out_images_are_no_training_images():
    train, held_out = _digits().for_classifier()
    assert len(held_out) == round(0.2 * 1797) and len(train) + len(held_out) == 1797
    assert len(held_out.labels.unique()) == 10
    again = _digits().for_classifier()[1]
    assert torch.equal(again.pixels, held_out.pixels)


def test_cifar10_is_read_from_its_own_files(tmp_path):
    pixels, labels = write_cifar10(tmp_path)
    dataset = _config(
        data={"name": "cifar10", "root": str(tmp_path)},
        classifier=None,
        reward={"name": "mode_distance"},
    ).data.build()
    assert isinstance(dataset, ImageData)
    assert dataset.shape == (3, 32, 32) and dataset.class_names[0] == "airplane"
    assert len(dataset.images) == 50 and len(dataset.for_classifier()[1]) == 10
    # A row holds a red, a green and a blue plane, each row by row.
    first = torch.from_numpy(pixels[0].reshape(3, 32, 32).astype(np.float32)) / 127.5 - 1
    assert torch.allclose(dataset.images.scaled(slice(0, 1))[0], first, atol=1e-6)
    assert dataset.images.labels.tolist() == labels[:50]


def test_missing_cifar10_says_where_to_put_it(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.root=.*cifar-10-python.tar.gz.*download=true"):
        _config(data={"name": "cifar10", "root": str(tmp_path)}).data.build()


def test_image_folders_are_cropped_and_scaled(tmp_path):
    for label, tint in (("dark", 0), ("light", 255)):
        (tmp_path / label).mkdir()
        for i in range(3):
            Image.new("RGB", (40, 20 + i), (tint, tint, tint)).save(tmp_path / label / f"{i}.png")
    dataset = _config(
        data={"name": "image_folder", "root": str(tmp_path), "image_size": 16}
    ).data.build()
    assert isinstance(dataset, ImageData)
    assert dataset.shape == (3, 16, 16) and dataset.class_names == ["dark", "light"]
    assert dataset.images.scaled(slice(0, 1)).unique().tolist() == [-1]
    assert dataset.images.scaled(slice(5, 6)).unique().tolist() == [1]


def test_a_folder_without_images_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.root=.*needs a folder of images for each class"):
        _config(data={"name": "image_folder", "root": str(tmp_path)}).data.build()


def test_a_damaged_image_is_one_clear_error(tmp_path):
    (tmp_path / "dark").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "dark" / "0.png")
    content = (tmp_path / "dark" / "0.png").read_bytes()
    config = _config(data={"name": "image_folder", "root": str(tmp_path)})
    for damaged in (b"", b"no image", content[:60], content[:20] + bytes(30) + content[50:]):
        (tmp_path / "dark" / "0.png").write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"data\.root=") as error:
            config.data.build()
        assert "\n" not in str(error.value)


def test_images_of_more_pixels_than_memory_holds_are_refused_unmade(tmp_path, monkeypatch):
    monkeypatch.setattr("luceloop.core.data.image_folder.machine_memory", lambda: 10**6)
    (tmp_path / "dark").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "dark" / "0.png")
    data = {"name": "image_folder", "root": str(tmp_path), "image_size": 1024}
    with pytest.raises(ConfigError, match=r"data\.image_size=1024: makes 1 images of 3.1 MB"):
        _config(data=data).data.build()


def test_more_images_than_there_are_is_refused():
    with pytest.raises(ConfigError, match=r"data\.size=1798: must be at most 1797"):
        _config(data={"name": "digits", "size": 1798}).data.build()


# --- classifiers


@pytest.mark.slow
def test_the_small_network_knows_held_out_digits(cache):
    classifier = build_scorer(_config(classifier={"name": "small_cnn"}), cache=cache).classifier
    assert classifier is not None and classifier.trained.accuracy >= 0.97


def test_a_classifier_is_trained_once_and_the_same_again(cache, monkeypatch):
    first = build_scorer(_config(), cache=cache).classifier
    fresh = build_scorer(_config()).classifier
    assert first is not None and fresh is not None
    torch.manual_seed(1)  # the global stream has no say
    for name, weight in first.trained.weights.items():
        assert torch.equal(weight, fresh.trained.weights[name]), name
    monkeypatch.setattr(Classifier, "_train", None)
    again = build_scorer(_config(seeds=7, lam=1), cache=cache).classifier
    assert again is not None and again.trained.accuracy == first.trained.accuracy


def test_real_images_get_the_same_logits_through_the_pool(cache):
    """Images of one range and a network of another are an easy mistake, and a silent one."""
    loop = Loop(_config(), cache=cache)
    [*_, last] = loop.run()
    stored = last.state.learner["samples"]
    pool = loop.learner.sample(loop.learner.model(last.state.learner), 40, [1, 2], 1, 0)
    classifier = loop.scorer.classifier
    assert classifier is not None and loop.dataset.images is not None
    images = loop.dataset.images.scaled(slice(None))
    logits = classifier(images).logits
    index = {tuple(image.flatten().tolist()): i for i, image in enumerate(images)}
    for x in (pool.flatten(0, 1), stored[0]):
        real = torch.tensor([index[tuple(image.flatten().tolist())] for image in x])
        assert torch.allclose(classifier(x).logits, logits[real], atol=1e-5)


def test_vgg11_reads_a_public_checkpoint_and_normalizes_by_itself(tmp_path):
    """Against torchvision's own network with the zoo's head, on normalized images."""
    torch.manual_seed(0)
    zoo = vgg11_bn(weights=None)
    zoo.avgpool = torch.nn.AdaptiveAvgPool2d((1, 1))
    head = [torch.nn.Linear(512, 4096), torch.nn.ReLU(), torch.nn.Dropout(),
            torch.nn.Linear(4096, 4096), torch.nn.ReLU(), torch.nn.Dropout(),
            torch.nn.Linear(4096, 10)]  # fmt: skip
    zoo.classifier = torch.nn.Sequential(*head)
    zoo.eval()
    torch.save(zoo.state_dict(), tmp_path / "vgg11_bn.pt")
    write_cifar10(tmp_path)
    config = _config(
        data={"name": "cifar10", "root": str(tmp_path)},
        classifier={"name": "vgg11_bn", "weights": str(tmp_path / "vgg11_bn.pt")},
    )
    scorer = build_scorer(config)
    assert scorer.classifier is not None
    x = scorer.dataset.draw(12, torch.Generator().manual_seed(0))
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).reshape(3, 1, 1)
    std = torch.tensor([0.2471, 0.2435, 0.2616]).reshape(3, 1, 1)
    with torch.no_grad():
        expected = zoo((x / 2 + 0.5 - mean) / std)
    found = scorer.classifier(x)
    assert torch.allclose(found.logits, expected, atol=1e-4)
    assert found.features.shape == (12, 512)


def test_a_file_that_is_no_such_network_is_refused(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "other.pt").write_bytes(pickle.dumps({"a": 1}))
    data = {"name": "cifar10", "root": str(tmp_path)}
    for weights, expected in (("other.pt", "is no such network"), ("gone.pt", "no such file")):
        chosen = {"name": "vgg11_bn", "weights": str(tmp_path / weights)}
        with pytest.raises(ConfigError, match=f"classifier.weights=.*{expected}"):
            scorer = build_scorer(_config(data=data, classifier=chosen))
            scorer(scorer.dataset.draw(2, torch.Generator()))


def test_vgg11_has_the_layout_of_the_zoo():
    names = set(VGG11(10).state_dict())
    assert {"features.0.weight", "features.26.running_var", "classifier.6.weight"} <= names
    assert VGG11(10).classifier[0].in_features == 512


# --- rewards


def _probabilities(config: PointConfig, x: Tensor, cache: Path) -> np.ndarray:
    classifier = build_scorer(config, cache=cache).classifier
    assert classifier is not None
    logits = classifier(x).logits.double().numpy()
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def test_rewards_are_the_classifiers_probabilities(cache):
    x = _digits().draw(300, torch.Generator().manual_seed(0))
    q = _probabilities(_config(), x, cache)
    expected = {
        ("class_probability", "label", 3): q[:, 3],
        ("max_confidence", None, None): q.max(1),
        ("label_set", "labels", (1, 7)): q[:, 1] + q[:, 7],
    }
    for (name, key, value), reward in expected.items():
        config = _config(reward={"name": name} | ({key: value} if key else {}))
        scorer = build_scorer(config, cache=cache)
        scores = scorer(x)
        assert np.allclose(scores.reward.numpy(), reward, atol=1e-6)
        assert scores.classes is not None and scores.classes.tolist() == q.argmax(1).tolist()
        assert scorer.supremum == 1 and scorer.n_classes == 10


BAD = [
    ({"quality": {"neighbours": 0}}, "quality.neighbours=0"),
    ({"quality": {"neighbours": 3, "samples": 3}}, "quality.samples=3: must exceed neighbours=3"),
    ({"quality": {"neighbours": 120, "samples": 500}}, "quality.neighbours=120: must be below 100"),
    (
        {"classifier": None, "reward": {"name": "mode_distance"}, "quality": {}},
        "quality=.*needs a classifier",
    ),
    ({"classifier": None}, "reward.name='class_probability': needs a classifier"),
    ({"reward": {"name": "class_probability", "label": 10}}, r"reward.label=10: .*0 \(0\), 1"),
    ({"reward": {"name": "label_set", "labels": [2, 2]}}, "reward.labels=.*must not repeat"),
    ({"reward": {"name": "label_set", "labels": []}}, "reward.labels="),
    ({"classifier": {"name": "vgg11_bn"}}, "classifier.name='vgg11_bn': takes images"),
    ({"data": {"name": "two_moons"}}, "classifier.name='small_cnn': needs data of labelled images"),
]


@pytest.mark.parametrize(("keys", "message"), BAD, ids=str)
def test_parts_that_do_not_fit_are_one_clear_error(keys, message):
    with pytest.raises(ConfigError, match=message):
        Loop(_config(**keys))


# --- the loop


def test_pickers_of_a_digit_get_more_of_it(cache):
    config = _config(curation={"k": 4, "beta": 5}, kept_size=400, iterations=2, lam=math.inf)
    loop = Loop(config, cache=cache)
    shares = [result.metrics["class_fraction/3"] for result in loop.run()]
    assert (shares[1] > shares[0] + 0.1).all() and (shares[2] > shares[1] + 0.1).all()


QUALITY = {"quality": {"samples": 150, "neighbours": 3}}


def test_the_quality_of_a_pool_is_the_same_in_shards_and_whole(cache):
    config = _config(**QUALITY, sampling={"shard_size": 40}, iterations=0, pool_size=200)
    loop = Loop(config, cache=cache)
    [result] = loop.run()
    model = loop.learner.model(result.state.learner)
    parts = [loop.learner.sample(model, s.stop - s.start, [1, 2], 0, s.index) for s in loop.shards]
    pool, classifier, real = torch.cat(parts, 1), loop.scorer.classifier, loop.real_features
    assert len(parts) == 5 and classifier is not None and real is not None
    assert loop.dataset.images is not None
    everything = classifier(loop.dataset.images.scaled(slice(None))).features.double().numpy()
    for row in range(2):
        features = classifier(pool[row]).features
        f = features.double().numpy()
        here, there = np.cov(f.T), np.cov(everything.T)
        roots = np.sqrt(np.linalg.eigvals(here @ there).real.clip(0))
        expected = ((f.mean(0) - everything.mean(0)) ** 2).sum()
        expected += np.trace(here) + np.trace(there) - 2 * roots.sum()
        found = {name: float(result.metrics[name][row]) for name in QUALITY_METRICS}
        # Eigenvalues that should be 0 are off by rounding, 1e-16, and their roots by 1e-8 each.
        assert found["frechet_distance"] == pytest.approx(expected, abs=1e-5 * np.trace(there))
        pair = precision_recall(real.neighbourhoods, features[:150])
        assert (found["precision"], found["recall"]) == pair


QUALITY_METRICS = ("frechet_distance", "precision", "recall")


def test_pickers_of_a_digit_lose_the_others(cache):
    keys = {"curation": {"k": 4, "beta": 20}, "kept_size": 200, "iterations": 3, "lam": math.inf}
    results = list(Loop(_config(**QUALITY, **keys), cache=cache).run())
    first, last = results[0].metrics, results[-1].metrics
    assert set(QUALITY_METRICS) <= set(metric_names(10, 1.0, IMAGE_QUALITY)) & set(first)
    # p_0 is real images, and 150 of those against 150 others; then one digit in ten is left.
    assert (first["precision"] > 0.75).all() and (first["recall"] > 0.75).all()
    assert (last["recall"] < 0.3).all()
    assert (last["frechet_distance"] > 10 * first["frechet_distance"]).all()


def test_a_classifier_is_trained_once_whatever_device_and_threads_ask_for_it(tmp_path, monkeypatch):
    config = _config(classifier={"name": "small_cnn", "epochs": 1})
    trained = build_scorer(config, cache=tmp_path).classifier
    assert trained is not None
    weights = trained.trained.weights
    [file] = tmp_path.glob("classifier-*.pt")
    assert torch.load(file, weights_only=True)["trained_on"] == "1 threads of a CPU"

    def again(*_: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr("luceloop.core.classifier.classifier.fit", again)
    for device, threads in (("cuda", 1), ("cpu", 4)):
        other = config.model_copy(update={"resources": ResourcesConfig(threads=threads)})
        found = build_scorer(other, device, cache=tmp_path).classifier
        assert found is not None
        assert all(torch.equal(found.trained.weights[name], w) for name, w in weights.items())
        assert law_key(other) == law_key(config)


def test_recorded_real_rewards_make_the_same_law_to_the_bit(cache):
    config = _config()
    exact, recorded = real_law(config, cache=cache), real_rewards(config, cache=cache).arrays()
    assert recorded["reward"].dtype == np.float32 and recorded["classes"].dtype == np.uint8
    law = RealRewards.of(recorded).law
    for name in ("reward", "reference", "initial", "edges", "classes"):
        assert np.array_equal(getattr(law, name), getattr(exact, name)), name
    assert law.supremum == exact.supremum == 1.0 and law.starts_at_reference
    assert is_recorded(config) and not is_recorded(_config(classifier=None, **VECTORS))


VECTORS = {"data": {"name": "two_moons"}, "reward": {"name": "mode_distance"}}


def test_the_law_is_that_of_every_real_image(cache):
    law = real_law(_config(), cache=cache)
    x = _digits().images.scaled(slice(None))
    reward = build_scorer(_config(), cache=cache)(x).reward.double()
    assert law.reference @ law.reward == pytest.approx(float(reward.mean()), rel=1e-6)
    assert law.classes.shape[1] == 10 and law.supremum == 1


def test_without_a_cache_a_loop_trains_what_it_needs():
    results = list(run_loop(_config(classifier={"name": "small_cnn", "epochs": 1})))
    assert {"class_entropy", "exp_reward_mean", "margin/lemma_2_2"} <= set(results[1].metrics)
