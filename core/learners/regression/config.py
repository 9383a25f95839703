"""The configuration that learners which regress on noisy points have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from luceloop.core.errors import ConfigError
from luceloop.core.fields import AtMost, File, Finite, PositiveInt
from luceloop.core.learners.base import LearnerConfig
from luceloop.core.learners.networks.mlp import Activation
from luceloop.core.learners.networks.unet import UNetConfig


class RegressionConfig(LearnerConfig):
    """What learners that regress on noisy points have in common."""

    time_scale: ClassVar[float] = 1.0
    """What a U-Net multiplies times in [0, 1] by."""
    takes_checkpoint: ClassVar[bool] = False
    """Whether a checkpoint of torchcfm's, which holds a flow, can be p_0."""

    steps: PositiveInt = 1000
    """Optimizer steps of each retraining."""
    initial_steps: PositiveInt | None = None
    """Optimizer steps of p_0; twice `steps` if not given."""
    batch_size: Annotated[PositiveInt, AtMost(1_000_000)] = 256
    """Samples of a step."""
    init: Literal["warm", "scratch"] = "warm"
    """Whether a retraining starts from the last model or from new weights."""
    carry_optimizer: bool = False
    """Whether a warm start keeps Adam's moments."""
    lr: Finite = Field(1e-3, gt=0)
    """Adam's learning rate."""
    warmup: Annotated[int, Field(ge=0), AtMost(10**9)] = 0
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
    width: Annotated[PositiveInt, Field(multiple_of=32), AtMost(16_384)] = 64
    """Vectors: hidden units of a layer; whole SIMD vectors, so a seed ignores its neighbours."""
    depth: Annotated[PositiveInt, AtMost(256)] = 3
    """Vectors: hidden layers."""
    activation: Activation = "silu"
    """Vectors: of the hidden units; selu, torchcfm's, blurs narrow classes."""
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
            raise ConfigError("initial_ema", self.initial_ema, "needs ema, that of retrainings")
        return self

    @property
    def first_steps(self) -> int:
        """Steps of p_0."""
        return self.initial_steps or 2 * self.steps

    @property
    def initial_decay(self) -> float | None:
        """Decay of the moving average while p_0 is trained."""
        return self.initial_ema or self.ema

    @property
    def reads_initial(self) -> bool:
        """Whether p_0 is a checkpoint."""
        return self.checkpoint is not None

    def _initial_fit(self, later: set[str]) -> dict[str, Any]:
        """Everything here that determines a trained p_0, without what is for `later`."""
        retraining = {"steps", "init", "carry_optimizer", "sampled", "ema"}
        found = self.model_dump(exclude=retraining | later)
        return found | {"initial_steps": self.first_steps, "initial_ema": self.initial_decay}
