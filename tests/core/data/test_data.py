"""Real data: the laws they promise, and what is refused."""

from __future__ import annotations

import math
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_moons
from torchcfm.utils import sample_8gaussians

from luceloop.core import rng
from luceloop.core.data.base import Dataset
from luceloop.core.data.custom import CustomDataConfig
from luceloop.core.data.eight_gaussians import EightGaussians, EightGaussiansConfig
from luceloop.core.data.npz import NpzConfig
from luceloop.core.data.two_moons import TwoMoons, TwoMoonsConfig
from luceloop.core.errors import ConfigError

DRAWS = 50_000
TOO_UNLIKELY = 1e-6


def _draw(dataset: Dataset, count: int = DRAWS, seed: int = 0) -> np.ndarray:
    return dataset.draw(count, rng.stream(seed, "test")).double().numpy()


FEATURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "x": lambda x, y: x,
    "y": lambda x, y: y,
    "x²": lambda x, y: x**2,
    "y²": lambda x, y: y**2,
    "xy": lambda x, y: x * y,
    "radius": np.hypot,
    "radius⁴": lambda x, y: np.hypot(x, y) ** 4,
    "cos 8 angle": lambda x, y: np.cos(8 * np.arctan2(y, x)),
    "right": lambda x, y: (x > 0.5).astype(float),
    "upper": lambda x, y: (y > 0.25).astype(float),
}


def _assert_same_law(a: np.ndarray, b: np.ndarray) -> None:
    """Means of many features differ by less than five standard errors."""
    for name, feature in FEATURES.items():
        f, g = feature(*a.T), feature(*b.T)
        error = math.sqrt(f.var() / len(f) + g.var() / len(g))
        assert abs(f.mean() - g.mean()) < 5 * error, name


# --- eight Gaussians


@pytest.fixture
def gaussians() -> Dataset:
    return EightGaussiansConfig(size=100).build()


def test_eight_gaussians_have_the_law_torchcfm_draws(gaussians):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = sample_8gaussians(20_000).double().numpy()
    _assert_same_law(_draw(gaussians), reference)


def test_eight_gaussians_have_the_moments_of_the_mixture(gaussians):
    x = _draw(gaussians)
    # Of a mode on a circle of radius 5, a coordinate has variance 25/2; the noise adds √0.1.
    variance = 12.5 + math.sqrt(0.1)
    assert (abs(x.mean(0)) < 5 * math.sqrt(variance / DRAWS)).all()
    squares = x**2
    assert (abs(squares.mean(0) - variance) < 5 * squares.std(0) / math.sqrt(DRAWS)).all()


def test_every_mode_has_the_same_share(gaussians):
    x = gaussians.draw(DRAWS, rng.stream(0, "test"))
    counts = np.bincount(gaussians.classify(x).numpy(), minlength=8)
    assert stats.chisquare(counts).pvalue > TOO_UNLIKELY


def test_samples_scatter_about_their_mode_with_the_configured_deviation():
    assert EightGaussiansConfig().std == 0.1**0.25
    # So far apart that the nearest mode is the one a sample was drawn from.
    far = EightGaussians(size=1, radius=100.0, std=0.1**0.25)
    x = far.draw(DRAWS, rng.stream(0, "test"))
    residual = (x - far.modes[far.classify(x)]).double().numpy()
    for coordinate in residual.T:
        assert stats.kstest(coordinate, stats.norm(0, 0.1**0.25).cdf).pvalue > TOO_UNLIKELY
    correlation = np.corrcoef(residual.T)[0, 1]
    assert abs(correlation) < 5 / math.sqrt(DRAWS)


def test_modes_stand_on_the_circle_in_order():
    modes = EightGaussians(size=1, radius=3.0, std=1.0).modes.double().numpy()
    for i, (x, y) in enumerate(modes):
        assert (x, y) == pytest.approx(
            (3 * math.cos(i * math.pi / 4), 3 * math.sin(i * math.pi / 4)), abs=1e-6
        )


def test_classes_of_gaussians_are_their_nearest_modes(gaussians):
    x = torch.from_numpy(np.random.default_rng(0).uniform(-8, 8, (5000, 2))).float()
    angles = np.arange(8) * math.pi / 4
    modes = 5 * np.stack([np.cos(angles), np.sin(angles)], 1)
    distance = np.linalg.norm(x.double().numpy()[:, None] - modes, axis=2)
    nearest = np.sort(distance, axis=1)
    clear = nearest[:, 1] - nearest[:, 0] > 1e-3  # float32 may decide the rest either way
    assert clear.mean() > 0.99
    found = gaussians.classify(x).numpy()
    assert (found == distance.argmin(1))[clear].all()


# --- two moons


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_two_moons_have_the_law_scikit_learn_draws(noise):
    reference, _ = make_moons(DRAWS, noise=noise or None, random_state=0)
    found = _draw(TwoMoonsConfig(noise=noise).build())
    _assert_same_law(found, reference)
    centre = np.array([0.5, 0.25])
    distances = [np.linalg.norm(x - centre, axis=1) for x in (found, reference)]
    assert stats.ks_2samp(*distances).pvalue > TOO_UNLIKELY


def test_moons_without_noise_are_uniform_half_circles():
    moons = TwoMoonsConfig(noise=0.0).build()
    x = moons.draw(DRAWS, rng.stream(0, "test"))
    lower = moons.classify(x).bool().numpy()
    assert stats.binomtest(int(lower.sum()), DRAWS).pvalue > TOO_UNLIKELY
    points = x.double().numpy()
    for part in (points[~lower], np.array([1.0, 0.5]) - points[lower]):
        assert np.hypot(*part.T) == pytest.approx(1, abs=1e-6)
        angle = np.arccos(np.clip(part[:, 0], -1, 1))
        assert (part[:, 1] > -1e-6).all()
        assert stats.kstest(angle, stats.uniform(0, math.pi).cdf).pvalue > TOO_UNLIKELY


def test_classes_of_moons_are_the_nearest_arcs():
    x = np.random.default_rng(0).uniform((-2, -1.5), (3, 2), (3000, 2)).astype(np.float32)
    angle = np.linspace(0, math.pi, 2001)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)
    to_upper, to_lower = (
        np.array([np.hypot(*(arc - point).T).min() for point in x]) for arc in (upper, lower)
    )
    # A point of the grid is at most π/4000 along the arc from the nearest point of the arc.
    clear = abs(to_upper - to_lower) > math.pi / 4000
    assert clear.mean() > 0.99
    found = TwoMoons(size=1, noise=0.1).classify(torch.from_numpy(x)).numpy()
    assert (found == (to_lower < to_upper))[clear].all()


@pytest.mark.parametrize("config", [EightGaussiansConfig(), TwoMoonsConfig()])
def test_draws_are_a_function_of_the_generator(config):
    dataset = config.build()
    assert np.array_equal(_draw(dataset, 50), _draw(dataset, 50))
    assert not np.array_equal(_draw(dataset, 50), _draw(dataset, 50, seed=1))


# --- npz


Save = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes arrays to an .npz file and returns its path."""

    def write(**arrays: Any) -> str:
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


IMAGES = np.arange(50 * 3 * 2, dtype=np.float64).reshape(50, 3, 2)


def test_npz_draws_subsets_without_replacement(save):
    dataset = NpzConfig(path=save(x=IMAGES), size=20).build()
    assert (dataset.size, dataset.shape, dataset.n_classes) == (20, (3, 2), 0)
    x = dataset.draw(20, rng.stream(0, "test"))
    assert x.dtype == torch.float32
    drawn = (x[:, 0, 0] / 6).long()
    assert len(set(drawn.tolist())) == 20
    assert torch.equal(x, torch.from_numpy(IMAGES[drawn]).float())
    other = dataset.draw(20, rng.stream(1, "test"))
    assert set((other[:, 0, 0] / 6).tolist()) != set(drawn.tolist())


def test_npz_draws_every_sample_equally_often(save):
    dataset = NpzConfig(path=save(x=np.arange(20.0)[:, None]), size=5).build()
    subsets = 4000
    counts = np.zeros(20)
    for seed in range(subsets):
        counts[dataset.draw(5, rng.stream(seed, "test"))[:, 0].long().numpy()] += 1
    error = math.sqrt(subsets * 0.25 * 0.75)  # a sample is in a subset with probability 1/4
    assert (abs(counts - subsets / 4) < 5 * error).all()


def test_npz_without_a_size_is_used_whole(save):
    dataset = NpzConfig(path=save(x=IMAGES)).build()
    assert dataset.size == 50
    drawn = dataset.draw(50, rng.stream(0, "test"))[:, 0, 0]
    assert torch.equal(drawn.sort().values, torch.from_numpy(IMAGES[:, 0, 0]).float())


def test_npz_labels_make_classes(save):
    x = np.random.default_rng(0).normal(size=(40, 2, 2))
    labels = np.random.default_rng(1).integers(0, 3, 40).astype(np.int16)
    dataset = NpzConfig(path=save(x=x, y=labels)).build()
    assert dataset.n_classes == 3
    queries = np.random.default_rng(2).normal(size=(200, 2, 2)).astype(np.float32)
    distance = np.linalg.norm((queries[:, None] - x[None]).reshape(200, 40, 4), axis=2)
    found = dataset.classify(torch.from_numpy(queries))
    assert found.dtype == torch.int64
    assert found.tolist() == labels[distance.argmin(1)].tolist()


def test_npz_with_a_relative_path_is_found_from_elsewhere(save, monkeypatch, tmp_path):
    save(x=IMAGES)
    monkeypatch.chdir(tmp_path)
    config = NpzConfig(path="data.npz")
    monkeypatch.chdir("/")
    assert config.build().size == 50


def _refusal(config: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        config.build()
    assert "\n" not in str(error.value)
    assert repr(error.value.value) in str(error.value)
    return error.value


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no x": ({"images": IMAGES}, "images"),
    "a vector": ({"x": np.arange(5.0)}, "(N, ...)"),
    "text": ({"x": np.array([["a", "b"]])}, "numbers"),
    "NaN": ({"x": np.array([[1.0, np.nan]])}, "finite"),
    "no samples": ({"x": np.zeros((0, 2))}, "x"),
    "no samples, no labels": ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, "x"),
    "infinite in float32": ({"x": np.full((3, 2), 1e300)}, "finite"),
    "complex": ({"x": np.ones((3, 2)) * 1j}, "numbers"),
    "real labels": ({"x": np.ones((3, 2)), "y": np.ones(3)}, "'y'"),
    "negative labels": ({"x": np.ones((3, 2)), "y": np.array([0, 1, -1])}, "'y'"),
    "too few labels": ({"x": np.ones((3, 2)), "y": np.array([0, 1])}, "'y'"),
    "label vectors": ({"x": np.ones((3, 2)), "y": np.zeros((3, 2), int)}, "'y'"),
    "pickled x": ({"x": np.array([[{}], [None]], dtype=object)}, "pickle"),
    "pickled y": ({"x": np.ones((2, 2)), "y": np.array([0, None], dtype=object)}, "pickle"),
}


@pytest.mark.parametrize(("arrays", "complaint"), REFUSED.values(), ids=REFUSED)
def test_npz_that_is_no_data_is_refused(save, arrays, complaint):
    error = _refusal(NpzConfig(path=save(**arrays)))
    assert error.key == "data.path"
    assert complaint in str(error)


def test_a_missing_npz_is_refused(tmp_path):
    error = _refusal(NpzConfig(path=str(tmp_path / "none.npz")))
    assert error.key == "data.path" and "no such file" in str(error)


def _whole(path: Path) -> bytes:
    np.savez(path, x=IMAGES)
    return path.read_bytes()


def _other_array(path: Path) -> bytes:
    with path.open("wb") as file:
        np.save(file, IMAGES)
    return path.read_bytes()


BROKEN: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda path: b"",
    "text": lambda path: b"x,y\n1,2\n",
    "truncated": lambda path: _whole(path)[:400],
    "damaged": lambda path: _whole(path).replace(IMAGES[20].tobytes(), bytes(48)),
    "a single array": _other_array,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content(path))
    assert _refusal(NpzConfig(path=str(path))).key == "data.path"


def _member(path: Path, name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)
    return path.read_bytes()


def _claiming(shape: str, kind: str = "<f8", body: bytes = bytes(64)) -> bytes:
    """A member whose header says what its content does not."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def _sized(path: Path, size: int) -> bytes:
    """An archive whose directory says how large its only member is."""
    content = bytearray(_member(path, "x.npy", _claiming(f"({size // 8}, 1)")))
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (size + 128).to_bytes(4, "little")
    return bytes(content)


def _encrypted(path: Path) -> bytes:
    content = bytearray(_whole(path))
    for start in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[start] |= 1
    return bytes(content)


LIES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "a shape of 10^15 numbers": (
        lambda path: _member(path, "x.npy", _claiming("(1000000000000000, 1)")),
        "'x' has a header of 8000.0 TB",
    ),
    "a shape beyond all numbers": (
        lambda path: _member(path, "x.npy", _claiming(f"({10**40}, 2)")),
        "'x' has a header of",
    ),
    "a size that the file cannot hold": (
        lambda path: _sized(path, 4_000_000_000),
        "'x' claims 4.0 GB, more than the file can hold",
    ),
    "a shape below nothing": (
        lambda path: _member(path, "x.npy", _claiming("(-4, -2)")),
        "not a readable .npz file",
    ),
    "a header of code": (
        lambda path: _member(path, "x.npy", _claiming("__import__('os').getcwd()")),
        "not a readable .npz file",
    ),
    "a header that is nested": (
        lambda path: _member(path, "x.npy", _claiming("(" * 4000)),
        "not a readable .npz file",
    ),
    "a kind of numbers that there is not": (
        lambda path: _member(path, "x.npy", _claiming("(4, 2)", "<q7")),
        "not a readable .npz file",
    ),
    "no header": (lambda path: _member(path, "x.npy", b"x,y\n1,2\n"), "magic"),
    "a header and no numbers": (
        lambda path: _member(path, "x.npy", _claiming("(4, 2)", body=b"")),
        "holds 0 B",
    ),
    "bzip2": (
        lambda path: _member(path, "x.npy", _claiming("(4, 2)"), zipfile.ZIP_BZIP2),
        "use np.savez",
    ),
    "lzma": (
        lambda path: _member(path, "x.npy", _claiming("(4, 2)"), zipfile.ZIP_LZMA),
        "use np.savez",
    ),
    "a cipher": (_encrypted, "encrypted"),
    "a damaged directory": (
        lambda path: _whole(path).replace(b"PK\x01\x02", b"PK\x01\x07"),
        "not a readable .npz file",
    ),
    "a damaged member": (
        lambda path: _whole(path).replace(b"PK\x03\x04", b"PK\x03\x09"),
        "not a readable .npz file",
    ),
    "a damaged header": (
        lambda path: _whole(path).replace(b"\x93NUMPY\x01", b"\x93NUMPY\x07"),
        "not a readable .npz file",
    ),
    "another version": (
        lambda path: _member(path, "x.npy", b"\x93NUMPY\x03" + _claiming("(4, 2)")[7:]),
        "version (3, 0)",
    ),
    "samples of nothing": (
        lambda path: _member(path, "x.npy", _claiming("(4, 0)", body=b"")),
        "'x' must be finite numbers",
    ),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_file_is_believed_nothing_that_it_says_of_itself(kind, tmp_path):
    content, complaint = LIES[kind]
    path = tmp_path / "data.npz"
    path.write_bytes(content(path))
    tracemalloc.start()
    error = _refusal(NpzConfig(path=str(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.key == "data.path" and complaint in str(error)
    assert peak < 10 * 2**20


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_to_a_file_is_refused_or_changes_nothing(seed, tmp_path):
    """Where it hit what nobody reads, the samples are those that were there."""
    path, random = tmp_path / "data.npz", np.random.default_rng(seed)
    np.savez_compressed(path, x=IMAGES, y=np.arange(50) % 3)
    content = bytearray(path.read_bytes())
    for place in random.integers(0, len(content), 3):
        content[place] = random.integers(256)
    path.write_bytes(content)
    try:
        found = NpzConfig(path=str(path)).build()
    except ConfigError as error:
        assert error.key == "data.path" and "\n" not in str(error)
    else:
        assert torch.equal(found.x, torch.from_numpy(IMAGES).float())


def test_a_compressed_file_is_read_as_a_plain_one(save, tmp_path):
    columns = np.asfortranarray(np.random.default_rng(0).normal(size=(50, 4)))
    np.savez_compressed(tmp_path / "packed.npz", x=columns)
    packed = NpzConfig(path=str(tmp_path / "packed.npz")).build()
    assert torch.equal(packed.x, NpzConfig(path=save(x=columns)).build().x)
    assert torch.equal(packed.x, torch.from_numpy(columns).float())


def test_a_size_beyond_the_file_is_refused(save):
    error = _refusal(NpzConfig(path=save(x=IMAGES), size=51))
    assert (error.key, error.value) == ("data.size", 51)
    assert "50" in str(error)


# --- the user's own


CUSTOM = """
import torch

class Ring:
    shape = (2,)
    n_classes = 0

    def __init__(self, size, radius=1.0):
        self.size, self.radius = size, radius

    def draw(self, size, generator):
        x = torch.randn(size, 2, generator=generator)
        return self.radius * x / x.norm(dim=1, keepdim=True)

    def classify(self, x):
        raise AssertionError("a dataset without classes is never asked for them")

class NoDataset:
    def __init__(self, size):
        self.size = size
"""


def test_a_custom_dataset_is_built_with_its_size_and_arguments(write_module):
    module = write_module(CUSTOM)
    dataset = CustomDataConfig(name=f"{module}:Ring", size=30, args={"radius": 2.0}).build()
    assert dataset.size == 30
    x = dataset.draw(10, rng.stream(0, "test"))
    assert x.norm(dim=1).tolist() == pytest.approx([2.0] * 10, rel=1e-6)


@pytest.mark.parametrize(
    ("attribute", "args", "complaint"),
    [
        ("Absent", {}, "no attribute"),
        ("NoDataset", {}, "draw"),
        ("Ring", {"colour": 1}, "colour"),
    ],
)
def test_custom_code_that_is_no_dataset_is_refused(write_module, attribute, args, complaint):
    name = f"{write_module(CUSTOM)}:{attribute}"
    error = _refusal(CustomDataConfig(name=name, args=args))
    assert (error.key, error.value) == ("data.name", name)
    assert complaint in str(error)


def test_a_module_that_cannot_be_imported_is_refused():
    error = _refusal(CustomDataConfig(name="no_such_module_anywhere:Data"))
    assert error.key == "data.name" and "no_such_module_anywhere" in str(error)


def test_a_function_may_make_one_of_our_datasets(write_module, save):
    """Which keeps all it can: its law is exact, its images can be classified."""
    module = write_module(
        "from luceloop.core.data.digits import DigitsConfig\n"
        "from luceloop.core.data.npz import NpzConfig\n\n"
        "def digits(size):\n    return DigitsConfig(size=size).build()\n\n"
        "def file(size, path):\n    return NpzConfig(path=path, size=size).build()\n"
    )
    digits = CustomDataConfig(name=f"{module}:digits", size=40).build()
    assert digits.size == 40 and digits.images is not None and digits.class_names[7] == "7"
    config = CustomDataConfig(name=f"{module}:file", size=20, args={"path": save(x=IMAGES)})
    [samples] = config.build().law_samples(cheap=False)
    assert torch.equal(samples, torch.from_numpy(IMAGES).float())
