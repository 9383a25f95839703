"""Compiling functions on arrays to machine code, by Numba, which needs no compiler installed.

For the innermost loops alone: what is compiled is a function of arrays and numbers that calls
nothing but such functions. Compiling takes seconds; what comes of it is kept on disk, for the
processor it was made for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])

ROUNDING = {"contract", "nsz", "arcp"}
"""What the compiler may change: fused multiply-adds, signs of zeros, products with reciprocals.

It may neither reorder sums nor assume that numbers are finite.
"""


def compiled(function: Function) -> Function:
    """The same function as machine code, compiled when it is first called with such arguments.

    It does not hold Python's lock, does not check indices, and divides by zero without an error.
    """
    from numba import njit  # half a second, which most commands need not wait for

    options: dict[str, Any] = {"fastmath": ROUNDING, "error_model": "numpy", "nogil": True}
    try:
        return cast(Function, njit(cache=True, **options)(function))
    except RuntimeError:  # no folder to keep it in: neither beside the source nor the user's own
        return cast(Function, njit(**options)(function))


def inlined(function: Function) -> Function:
    """The same function, for use in compiled ones, which then hold its code."""
    from numba import njit

    return cast(Function, njit(inline="always", fastmath=ROUNDING)(function))


def in_parts(call: Callable[[int, int], None], count: int) -> None:
    """Call a compiled function for parts `start` to `stop` of `count`, one per torch thread."""
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        call(0, count)
        return
    ends = [count * part // threads for part in range(threads + 1)]
    list(_threads(threads).map(call, ends[:-1], ends[1:]))


@functools.lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "compiled")
