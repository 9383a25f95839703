"""Named random streams: every draw is a function of (seed, purpose, iteration, shard).

No draw comes from global state, so results do not depend on which process makes them,
in what order, or how often the loop was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def stream(
    seed: int, purpose: str, iteration: int = 0, shard: int = 0, device: str = "cpu"
) -> torch.Generator:
    """A fresh generator at the start of the stream with this name."""
    return torch.Generator(device).manual_seed(_number(seed, purpose, iteration, shard))


@contextmanager
def global_stream(seed: int, device: str = "cpu") -> Iterator[None]:
    """Have torch's global streams start at a seed for a while, for code that draws from no other.

    Afterwards they are what they were: those of the CPU, and of `device` where that is a GPU. No
    other GPU's stream is touched.
    """
    devices = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for each in devices:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


def array_stream(
    seed: int, purpose: str, iteration: int = 0, shard: int = 0
) -> np.random.Generator:
    """A fresh NumPy generator at the start of the stream with this name."""
    return np.random.Generator(np.random.SFC64(_number(seed, purpose, iteration, shard)))


def _number(seed: int, purpose: str, iteration: int, shard: int) -> int:
    name = f"{seed}/{purpose}/{iteration}/{shard}".encode()
    digest = hashlib.blake2b(name, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def streams(
    seeds: Sequence[int],
    purpose: str,
    iteration: int = 0,
    shard: int = 0,
    device: str = "cpu",
) -> list[torch.Generator]:
    """One stream per row (R of them), so that a row draws the same whatever its neighbours."""
    return [stream(seed, purpose, iteration, shard, device) for seed in seeds]


def normal(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal draws `(R, *shape)`, float32, row r from generator r."""
    out = _empty(generators, shape)
    for row, generator in zip(out, generators, strict=True):
        row.normal_(generator=generator)
    return out


def uniform(
    generators: Sequence[torch.Generator],
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform draws on [0, 1) `(R, *shape)`, row r from generator r."""
    out = _empty(generators, shape, dtype)
    for row, generator in zip(out, generators, strict=True):
        row.uniform_(generator=generator)
    return out


def integers(generators: Sequence[torch.Generator], below: Tensor, count: int) -> Tensor:
    """Uniform integers `(R, count)`, int64, row r from 0 to `below[r]` - 1, from generator r."""
    return torch.stack(
        [
            torch.randint(high, (count,), generator=generator, device=generator.device)
            for high, generator in zip(below.tolist(), generators, strict=True)
        ]
    )


def gumbel(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard Gumbel draws `(R, *shape)`, float32, row r from generator r."""
    out = _empty(generators, shape)
    for row, generator in zip(out, generators, strict=True):
        row.exponential_(generator=generator)
    return out.log_().neg_()


def _empty(
    generators: Sequence[torch.Generator],
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return torch.empty(len(generators), *shape, dtype=dtype, device=generators[0].device)
