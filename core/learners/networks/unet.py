"""torchcfm's U-Net as a network of the learners.

Axes: R rows, B batch, d coordinates (channels x height x width).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import scaled_dot_product_attention

from luceloop.core import rng
from luceloop.core.fields import AtMost, Finite, PositiveInt, Strict
from luceloop.core.learners.networks.base import Regressor, regress_by_autograd

BACKEND = "inductor"
"""Of torch.compile."""
MOST_SHAPES = 64
"""Graphs that torch.compile may make of the network in one process."""
OPTIONS: dict[str, Any] = {"deterministic": True}
"""Of the backend."""


class UNetConfig(Strict):
    """torchcfm's U-Net, for images."""

    channels: Annotated[PositiveInt, AtMost(4096)] = 128
    """Of the first level."""
    multipliers: tuple[Annotated[PositiveInt, AtMost(64)], ...] = Field(
        (1, 2, 2, 2), min_length=1, max_length=8
    )
    """Channels of each level, in units of the first's; each level halves the image."""
    blocks: Annotated[PositiveInt, AtMost(64)] = 2
    """Residual blocks of a level."""
    attention: tuple[PositiveInt, ...] = (16,)
    """Image sizes at which there is attention."""
    heads: Annotated[PositiveInt, AtMost(1024)] = 4
    """Of attention."""
    head_channels: Annotated[PositiveInt, AtMost(4096)] | None = 64
    """Channels of a head, which then decide their number."""
    dropout: Finite = Field(0.1, ge=0, lt=1)
    """Share of units that training drops."""


class UNet:
    """R U-Nets, computed one after another: each is large enough to fill a device."""

    batched = False

    def __init__(
        self,
        config: UNetConfig,
        shape: tuple[int, ...],
        device: str,
        *,
        time_scale: float = 1.0,
        bf16: bool = False,
        fused: bool = False,
    ) -> None:
        """Build the module; its own weights are not used.

        Args:
            config: the network.
            shape: of an image, `(channels, size, size)`.
            device: where it computes.
            time_scale: what times in [0, 1] are multiplied by.
            bf16: whether it computes in bfloat16 where that is safe.
            fused: whether torch.compile fuses it.
        """
        self.config, self.shape, self.device = config, shape, device
        self._time_scale, self._autocast = time_scale, bf16
        self.module = self._build(torch.Generator().manual_seed(0)).to(device).eval()
        """torchcfm's; its own weights are not used."""
        self._forward = self._one
        if fused:
            # A kernel for each shape, whichever came first; and none chosen by timing it. Points of
            # a sweep that share a process may have many shapes.
            torch._dynamo.config.recompile_limit = MOST_SHAPES
            self._forward = torch.compile(
                self._one, dynamic=False, fullgraph=True, backend=BACKEND, options=OPTIONS
            )

    @property
    def parameters_count(self) -> int:
        """Weights of a row."""
        return sum(each.numel() for each in self.module.parameters())

    def initialize(self, seeds: Sequence[int], iteration: int) -> dict[str, Tensor]:
        """New weights as torchcfm initializes them, from each seed's stream."""
        built = [self._build(generator) for generator in rng.streams(seeds, "weights", iteration)]
        named = [dict(module.named_parameters()) for module in built]
        return {name: torch.stack([row[name].detach() for row in named]) for name in named[0]}

    @contextmanager
    def training(self, seeds: Sequence[int], iteration: int, segment: int = 0) -> Iterator[None]:
        """Dropout is on, and draws from the seed's stream; rows train one after another."""
        [generator] = rng.streams(seeds, "dropout", iteration, segment)
        with rng.global_stream(generator.initial_seed(), self.device):
            self.module.train()
            try:
                yield
            finally:
                self.module.eval()

    def __call__(self, parameters: Mapping[str, Tensor], t: Tensor, x: Tensor) -> Tensor:
        """Outputs `(R, B, d)` at times `t` `(R, B, 1)` or scalar, points `x` `(R, B, d)`."""
        rows, batch, dim = x.shape
        times = self._time_scale * t.expand(rows, batch, 1).reshape(rows, batch)
        images = x.reshape(rows, batch, *self.shape)
        outputs = [
            self._forward(_row(parameters, row), times[row], image)
            for row, image in enumerate(images)
        ]
        return torch.stack(outputs).reshape(rows, batch, dim)

    def regressor(
        self, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> Regressor:
        """See `Network.regressor`."""
        return regress_by_autograd(self, parameters)

    def _one(self, parameters: Mapping[str, Tensor], t: Tensor, x: Tensor) -> Tensor:
        """Outputs of one row's parameters `(1, ...)` at times `(B,)`, images `(B, C, H, W)`."""
        kind = torch.device(self.device).type
        if kind == "cuda":  # the layout that tensor cores read
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(kind, torch.bfloat16, enabled=self._autocast):
            # A view takes no copy, of the weights or of their gradient.
            named = {name: p.view(p.shape[1:]) for name, p in parameters.items()}
            out: Tensor = functional_call(self.module, named, (t, x))
        return out.float()

    def _build(self, generator: torch.Generator) -> nn.Module:
        """A new module, with this file's attention."""
        from torchcfm.models.unet.unet import AttentionBlock

        module = torchcfm_module(self.config, self.shape, generator)
        for block in module.modules():
            if isinstance(block, AttentionBlock):
                block.attention = Attention(block.num_heads)
        return module


def torchcfm_module(
    config: UNetConfig, shape: tuple[int, ...], generator: torch.Generator
) -> nn.Module:
    """A new U-Net of torchcfm's, as it comes.

    torch and torchcfm initialize from the global stream, which is put back.
    """
    from torchcfm.models.unet.unet import UNetModelWrapper  # seconds, that only images need

    with rng.global_stream(generator.initial_seed()):
        module: nn.Module = UNetModelWrapper(
            dim=shape,
            num_channels=config.channels,
            num_res_blocks=config.blocks,
            channel_mult=list(config.multipliers),
            # torchcfm cannot take an empty list; no level has images larger than all.
            attention_resolutions=",".join(map(str, config.attention or (shape[-1] + 1,))),
            num_heads=config.heads,
            num_head_channels=config.head_channels or -1,
            dropout=config.dropout,
        )
    return module


class Attention(nn.Module):
    """Attention of each position to all others, as torchcfm has it.

    Where no gradients are taken, in sampling, torch's fused kernel does not write the matrix of all
    pairs of positions to memory. Its gradients on a GPU are not the same bits twice, so training
    does without.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv: Tensor) -> Tensor:
        """Mix the values `(B, heads x channels, positions)` of `(B, heads x 3 channels, ...)`."""
        batch, width, length = qkv.shape
        parts = qkv.reshape(batch, self.heads, 3, width // self.heads // 3, length)
        # Fused kernels want the channels of a position side by side.
        query, key, value = parts.transpose(-1, -2).contiguous().unbind(2)
        if torch.is_grad_enabled():
            weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            mixed = weights.float().softmax(-1).type(weights.dtype) @ value
        else:
            mixed = scaled_dot_product_attention(query, key, value)
        found: Tensor = mixed.transpose(-1, -2).reshape(batch, -1, length)
        return found


def _row(parameters: Mapping[str, Tensor], row: int) -> Mapping[str, Tensor]:
    """The parameters of one row, `(1, ...)`; of one alone the very tensors that are trained."""
    if len(next(iter(parameters.values()))) == 1:
        return parameters
    return {name: parameter[row : row + 1] for name, parameter in parameters.items()}
