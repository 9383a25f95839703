"""The configuration of a sweep: strict, immutable, checked where it is built.

A `Config` describes a sweep; `core.parsing` builds it from plain values and derives the
configuration of each of its points; `core.sizes` works out the sizes of its training sets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from luceloop.core import plugins
from luceloop.core.search_config import Finite, PositiveInt, SearchConfig, Strict
from luceloop.core.storage import is_url

MOST_SEEDS = 10_000
"""Of a count; each is a row of every tensor, and a run of every point."""
STAGES = {"euler": 1, "midpoint": 2, "rk4": 4}
"""Network evaluations in one step of the fixed-step solvers."""


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _absolute_unless_url(name: str) -> str:
    return name if is_url(name) else _absolute(name)


Directory = Annotated[str, AfterValidator(_absolute)]
"""A folder; kept as an absolute path."""
File = Annotated[str, AfterValidator(_absolute_unless_url)]
"""A file: an fsspec URL, or a path, kept as an absolute one."""


def _parse_k(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lstrip(".").lower() in (
        "inf",
        "infinity",
        "∞",
    ):
        return math.inf
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value >= 1
    if not whole or (value != math.inf and value != int(value)):
        raise ValueError("must be a whole number from 1, or inf")
    return value if value == math.inf else int(value)


# --- data


class EightGaussiansConfig(Strict):
    """Mixture of eight equal Gaussians on a circle."""

    name: Literal["eight_gaussians"] = "eight_gaussians"
    size: PositiveInt = 5000
    """Real samples drawn for each seed."""
    radius: Finite = Field(5.0, gt=0)
    """Distance of the modes from the origin."""
    std: Finite = Field(0.1**0.25, gt=0)
    """Standard deviation of each coordinate within a mode."""


class TwoMoonsConfig(Strict):
    """Two interleaved half circles of radius 1."""

    name: Literal["two_moons"] = "two_moons"
    size: PositiveInt = 5000
    """Real samples drawn for each seed."""
    noise: Finite = Field(0.1, ge=0)
    """Standard deviation of the noise on each coordinate."""


class NpzConfig(Strict):
    """A user's own samples: array `x` (N, ...) and, if there are classes, integers `y` (N,)."""

    name: Literal["npz"] = "npz"
    path: File
    """The .npz file."""
    size: PositiveInt | None = None
    """Real samples of each seed, drawn without replacement; all of the file if not given."""


class DigitsConfig(Strict):
    """scikit-learn's 1,797 handwritten digits, 8×8 pixels."""

    name: Literal["digits"] = "digits"
    size: PositiveInt | None = None
    """Real samples of each seed, drawn without replacement; all if not given."""


class Cifar10Config(Strict):
    """CIFAR-10's 50,000 training images, 32×32 pixels."""

    name: Literal["cifar10"] = "cifar10"
    root: Directory = "data"
    """The folder that holds cifar-10-batches-py; kept as an absolute path."""
    download: bool = False
    """Whether torchvision may download the archive there."""
    size: PositiveInt | None = None
    """Real samples of each seed, drawn without replacement; all if not given."""


class ImageFolderConfig(Strict):
    """A folder with a folder of images for each class."""

    name: Literal["image_folder"] = "image_folder"
    root: Directory
    """The folder; kept as an absolute path."""
    image_size: PositiveInt = 32
    """Pixels of a side; images are resized and cropped to squares, in colour."""
    size: PositiveInt | None = None
    """Real samples of each seed, drawn without replacement; all if not given."""


class _Custom(Strict):
    name: str = Field(pattern=plugins.PATTERN)
    """`package.module:attribute`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments the attribute is called with."""


class CustomDataConfig(_Custom):
    """A `core.data.Dataset` of the user's own."""

    size: PositiveInt = 5000
    """Real samples drawn for each seed."""


# --- learners


class UNetConfig(Strict):
    """torchcfm's U-Net, for images."""

    channels: PositiveInt = 128
    """Of the first level."""
    multipliers: tuple[PositiveInt, ...] = Field((1, 2, 2, 2), min_length=1)
    """Channels of each level, in units of the first's; each level halves the image."""
    blocks: PositiveInt = 2
    """Residual blocks of a level."""
    attention: tuple[PositiveInt, ...] = (16,)
    """Image sizes at which there is attention."""
    heads: PositiveInt = 4
    """Of attention."""
    head_channels: PositiveInt | None = 64
    """Channels of a head, which then decide their number."""
    dropout: Finite = Field(0.1, ge=0, lt=1)
    """Share of units that training drops."""


class RegressionConfig(Strict):
    """What learners that regress on noisy points have in common."""

    steps: PositiveInt = 1000
    """Optimizer steps of each retraining."""
    initial_steps: PositiveInt | None = None
    """Optimizer steps of p_0; twice `steps` if not given."""
    batch_size: PositiveInt = 256
    """Samples of a step."""
    init: Literal["warm", "scratch"] = "warm"
    """Whether a retraining starts from the last model or from new weights."""
    carry_optimizer: bool = False
    """Whether a warm start keeps Adam's moments."""
    lr: Finite = Field(1e-3, gt=0)
    """Adam's learning rate."""
    warmup: int = Field(0, ge=0)
    """Steps over which the learning rate rises to `lr`, counted from when Adam last began anew."""
    clip: Finite | None = Field(None, gt=0)
    """Largest gradient norm of a seed's network; no clipping if not given."""
    ema: Finite | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights; none if not given."""
    initial_ema: Finite | None = Field(None, gt=0, lt=1)
    """The same while p_0 is trained; `ema` if not given."""
    sampled: Literal["ema", "raw"] = "ema"
    """Which weights are sampled where there is a moving average."""
    flip: bool = False
    """Whether training mirrors images left to right at random."""
    width: Annotated[PositiveInt, Field(multiple_of=32)] = 64
    """Vectors: hidden units of a layer; whole SIMD vectors, so a seed ignores its neighbours."""
    depth: PositiveInt = 3
    """Vectors: hidden layers."""
    unet: UNetConfig = UNetConfig()
    """Images: the network."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Images: bf16 computes the network in bfloat16 where that is safe."""
    compile: bool = False
    """Images: whether torch.compile fuses the network, which takes minutes and pays on GPUs."""
    checkpoint: File | None = None
    """Images: p_0, read from a checkpoint of torchcfm's instead of trained."""

    @model_validator(mode="after")
    def _one_average(self) -> RegressionConfig:
        if self.initial_ema is not None and self.ema is None:
            raise ValueError(f"initial_ema={self.initial_ema}: needs ema, that of retrainings")
        return self

    @property
    def first_steps(self) -> int:
        """Steps of p_0."""
        return self.initial_steps or 2 * self.steps

    @property
    def initial_decay(self) -> float | None:
        """Decay of the moving average while p_0 is trained."""
        return self.initial_ema or self.ema

    def _initial_fit(self, later: set[str]) -> dict[str, Any]:
        """Everything here that determines a trained p_0, without what is for `later`."""
        retraining = {"steps", "init", "carry_optimizer", "sampled", "ema"}
        found = self.model_dump(exclude=retraining | later)
        return found | {"initial_steps": self.first_steps, "initial_ema": self.initial_decay}


class OTCFMConfig(RegressionConfig):
    """Optimal-transport conditional flow matching: a perceptron for vectors, a U-Net for images."""

    name: Literal["otcfm"] = "otcfm"
    sigma: Finite = Field(0.0, ge=0)
    """Standard deviation around the straight paths."""
    ot_batch: PositiveInt = 16
    """Samples coupled by one exact transport plan; 1 couples independently."""
    solver: Literal["euler", "midpoint", "rk4", "dopri5"] = "rk4"
    """ODE solver; dopri5 is adaptive, the others take `nfe` evaluations."""
    nfe: PositiveInt = 12
    """Network evaluations of a fixed-step solver."""
    tolerance: Finite = Field(1e-5, gt=0)
    """Relative and absolute tolerance of dopri5."""

    @model_validator(mode="after")
    def _whole_steps(self) -> OTCFMConfig:
        stages = STAGES.get(self.solver, 1)
        if self.nfe % stages:
            raise ValueError(
                f"nfe={self.nfe}: must be a multiple of {stages}, the evaluations of a step "
                f"of {self.solver}"
            )
        return self

    def initial_fit(self) -> dict[str, Any]:
        """Everything here that determines a trained p_0; the rest may differ between points."""
        return self._initial_fit({"solver", "nfe", "tolerance"})


class DDPMConfig(RegressionConfig):
    """Denoising diffusion with a linear schedule, the paper's learner on synthetic data."""

    name: Literal["ddpm"] = "ddpm"
    timesteps: Annotated[int, Field(ge=2, strict=True)] = 250
    """Steps of the diffusion."""
    noise: tuple[Finite, Finite] | None = None
    """First and last β of the schedule; 0.1 and 20 over `timesteps` if not given."""
    prediction: Literal["noise", "velocity"] = "noise"
    """What the network predicts; velocity is √ᾱ ε - √(1-ᾱ) x, which ddim prefers."""
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    """ancestral takes every step with new noise; ddim is deterministic (Song et al. 2021)."""
    ddim_steps: PositiveInt = 50
    """Network evaluations of ddim, evenly spaced."""

    @model_validator(mode="after")
    def _sensible(self) -> DDPMConfig:
        first, last = self.schedule
        if not 0 < first <= last < 1:
            raise ValueError(f"noise={[first, last]}: needs 0 < first <= last < 1")
        if self.sampler == "ddim" and self.ddim_steps > self.timesteps:
            raise ValueError(f"ddim_steps={self.ddim_steps}: must be at most {self.timesteps}")
        return self

    @property
    def schedule(self) -> tuple[float, float]:
        """First and last β."""
        return self.noise or (0.1 / self.timesteps, 20 / self.timesteps)

    def initial_fit(self) -> dict[str, Any]:
        """Everything here that determines a trained p_0; the rest may differ between points."""
        return self._initial_fit({"sampler", "ddim_steps"})


class EmpiricalConfig(Strict):
    """A perfect learner at finite n: stores its training set and resamples it."""

    name: Literal["empirical"] = "empirical"

    def initial_fit(self) -> dict[str, Any]:
        """Everything here that determines a trained p_0."""
        return self.model_dump()


class CustomLearnerConfig(_Custom):
    """A `core.learners.base.Learner` of the user's own."""

    def initial_fit(self) -> dict[str, Any]:
        """Everything here that determines a trained p_0, the code's own digest included."""
        return self.model_dump() | {"source": plugins.source_digest("learner.name", self.name)}


# --- classifiers


class SmallCNNConfig(Strict):
    """A small convolutional network, trained on the real images in seconds."""

    name: Literal["small_cnn"] = "small_cnn"
    width: PositiveInt = 32
    """Channels of the first convolution."""
    epochs: PositiveInt = 20
    """Passes over the training images."""
    batch_size: PositiveInt = 64
    """Images of a step."""
    lr: Finite = Field(0.05, gt=0)
    """Highest learning rate of the one-cycle schedule."""
    shift: int = Field(1, ge=0)
    """Largest shift of a training image, in pixels."""
    flip: bool = False
    """Whether training mirrors images left to right at random."""


class VGG11Config(Strict):
    """VGG11 with batch normalization, the paper's classifier of CIFAR-10."""

    name: Literal["vgg11_bn"] = "vgg11_bn"
    weights: File | None = None
    """A state dict of a public CIFAR-10 model zoo's network; trained from scratch without one."""
    epochs: PositiveInt = 60
    """Passes over the training images."""
    batch_size: PositiveInt = 256
    """Images of a step."""
    lr: Finite = Field(0.1, gt=0)
    """Highest learning rate of the one-cycle schedule."""
    shift: int = Field(4, ge=0)
    """Largest shift of a training image, in pixels."""
    flip: bool = True
    """Whether training mirrors images left to right at random."""


# --- rewards and curation


class ModeDistanceConfig(Strict):
    """r(x) = -max(0, |x - center| - r_min): flat within r_min of a mode, falling outside."""

    name: Literal["mode_distance"] = "mode_distance"
    mode: int = Field(0, ge=0)
    """Which of the data's modes is rewarded."""
    center: tuple[Finite, ...] | None = None
    """The rewarded point, where it is not one of the data's modes."""
    r_min: Finite = Field(1.0, ge=0)
    """Radius within which the reward is at its maximum, 0."""


class ClassProbabilityConfig(Strict):
    """r(x) = q_label(x), the probability that the classifier gives one class."""

    name: Literal["class_probability"] = "class_probability"
    label: int = Field(0, ge=0)
    """The class."""


class MaxConfidenceConfig(Strict):
    """r(x) = max_i q_i(x), how sure the classifier is of its answer."""

    name: Literal["max_confidence"] = "max_confidence"


class LabelSetConfig(Strict):
    """r(x) = Σ q_i(x) over several classes."""

    name: Literal["label_set"] = "label_set"
    labels: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(min_length=1)
    """The classes."""


class CustomRewardConfig(_Custom):
    """A function of samples (N, ...) to rewards (N,), with an optional `supremum`."""


class CurationConfig(Strict):
    """How the kept samples are chosen from the pool."""

    kind: Literal["luce"] = "luce"
    """Luce's choice among K candidates (Bradley-Terry for K=2)."""
    k: Annotated[int | float, BeforeValidator(_parse_k)] = 2
    """Candidates per choice, K; inf draws from the whole pool."""
    beta: float = Field(1.0, ge=0)
    """Reward multiplicative factor; inf keeps the best of K."""


# --- running


class ActorResources(Strict):
    """CPUs and GPUs of one actor; fractions share a device."""

    cpus: float | Literal["auto"] = "auto"
    gpus: float | Literal["auto"] = "auto"

    @field_validator("cpus", "gpus")
    @classmethod
    def _sensible(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not 0 <= value < math.inf:
            raise ValueError("must be a finite number from 0, or auto")
        return value


class ResourcesConfig(Strict):
    """What a trial and its samplers may use; but for `threads`, it changes no result."""

    samplers: Annotated[int, Field(ge=0, le=10_000)] | Literal["auto"] = "auto"
    """Sampler actors of a trial; with 0 the trial samples itself."""
    trial: ActorResources = ActorResources()
    sampler: ActorResources = ActorResources()
    threads: PositiveInt = 1
    """CPU threads of torch in every process; part of what determines the last bits of a result."""


class QualityConfig(Strict):
    """Fréchet distance, precision and recall of images, in a network's features."""

    inception: File | None = None
    """Weights of FID's Inception network, a file; the classifier's features if not given."""
    samples: PositiveInt = 1000
    """Images that precision and recall compare, generated and real."""
    neighbours: PositiveInt = 3
    """How far the ball about an image reaches: to so many nearest others."""

    @model_validator(mode="after")
    def _enough(self) -> QualityConfig:
        if self.samples <= self.neighbours:
            raise ValueError(f"samples={self.samples}: must exceed neighbours={self.neighbours}")
        return self


class SamplingConfig(Strict):
    """How a pool is generated."""

    shard_size: PositiveInt = 1024
    """Samples a sampler generates at a time; names random streams, so it determines results."""
    preview: int = Field(500, ge=0)
    """Samples per seed and iteration that are kept for figures."""


# --- the whole


def _tag(value: Any, default: str | None) -> str | None:
    name = value.get("name", default) if isinstance(value, Mapping) else getattr(value, "name", "")
    return "custom" if isinstance(name, str) and ":" in name else name


DataConfig = Annotated[
    Annotated[EightGaussiansConfig, Tag("eight_gaussians")]
    | Annotated[TwoMoonsConfig, Tag("two_moons")]
    | Annotated[NpzConfig, Tag("npz")]
    | Annotated[DigitsConfig, Tag("digits")]
    | Annotated[Cifar10Config, Tag("cifar10")]
    | Annotated[ImageFolderConfig, Tag("image_folder")]
    | Annotated[CustomDataConfig, Tag("custom")],
    Discriminator(lambda value: _tag(value, None)),
]
LearnerConfig = Annotated[
    Annotated[OTCFMConfig, Tag("otcfm")]
    | Annotated[DDPMConfig, Tag("ddpm")]
    | Annotated[EmpiricalConfig, Tag("empirical")]
    | Annotated[CustomLearnerConfig, Tag("custom")],
    Discriminator(lambda value: _tag(value, "otcfm")),
]
ClassifierConfig = SmallCNNConfig | VGG11Config
RewardConfig = Annotated[
    Annotated[ModeDistanceConfig, Tag("mode_distance")]
    | Annotated[ClassProbabilityConfig, Tag("class_probability")]
    | Annotated[MaxConfidenceConfig, Tag("max_confidence")]
    | Annotated[LabelSetConfig, Tag("label_set")]
    | Annotated[CustomRewardConfig, Tag("custom")],
    Discriminator(lambda value: _tag(value, "mode_distance")),
]


class Config(Strict):
    """A sweep. Field names are the keys of its YAML file."""

    name: str = Field(min_length=1, max_length=100)
    """What the sweep is called in lists and in MLflow."""
    description: str = ""
    """One sentence for those lists."""
    data: DataConfig
    learner: LearnerConfig = OTCFMConfig()
    classifier: Annotated[ClassifierConfig, Field(discriminator="name")] | None = None
    """Of images: for rewards by class, class shares, and features."""
    reward: RewardConfig = ModeDistanceConfig()
    curation: CurationConfig = CurationConfig()
    lam: float = Field(math.inf, ge=0)
    """Synthetic : real ratio λ; inf retrains on kept samples alone, 0 on real ones alone."""
    iterations: int = Field(8, ge=0, le=10**6, strict=True)
    """Retrainings T; curves have T+1 values."""
    real_size: PositiveInt | None = None
    """Real samples n of each training set; data.size if not given."""
    kept_size: PositiveInt | None = None
    """Kept samples m of each training set; ⌊λn⌋ if not given."""
    pool_size: PositiveInt | None = None
    """Samples generated at each iteration; what the choices need if not given."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63, strict=True)], ...] = (0, 1, 2, 3, 4)
    """Replicates: a list, or a count n for 0 to n-1."""
    sampling: SamplingConfig = SamplingConfig()
    quality: QualityConfig | None = None
    """Of images: what is measured of how they look; nothing if not given."""
    resources: ResourcesConfig = ResourcesConfig()
    search: SearchConfig = SearchConfig()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[\w][\w .-]*", name):
            raise ValueError("may hold letters, digits, spaces, and _ . - after the first")
        return name

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, seeds: Any) -> Any:
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if seeds > MOST_SEEDS:
                raise ValueError(f"must be at most {MOST_SEEDS}, or a list")
            seeds = list(range(seeds))
        if not isinstance(seeds, list | tuple) or not seeds:
            raise ValueError("must be a count from 1 or a list of at least one seed")
        if len(set(map(str, seeds))) < len(seeds):
            raise ValueError("must not repeat a seed")
        return seeds

    @property
    def beta(self) -> float:
        """β, the reward's multiplicative factor."""
        return self.curation.beta

    @property
    def k(self) -> int | float:
        """K, the candidates per choice."""
        return self.curation.k

    @property
    def point_count(self) -> int:
        """Points of the sweep."""
        lengths = [len(dimension.values or []) for dimension in self.search.space.values()]
        return self.search.trials or math.prod(lengths)

    def flat(self) -> dict[str, Any]:
        """Dotted keys and plain values, without the search, for tables and parameters."""
        return _flatten(self.model_dump(mode="python", exclude={"search"}))


def _flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
