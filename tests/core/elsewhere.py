"""A tensor that pretends to lie on another device: it can be moved, not computed with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ALLOWED = {"to", "cpu", "item", "detach", "dim", "size", "__get__", "numel", "is_floating_point"}


class Elsewhere(Tensor):
    """Any operation but a move fails, as one that mixes devices does."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Allow what needs no other tensor; `to` and `cpu` come back as a plain one."""
        name = function.__name__
        if name not in ALLOWED:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        with torch._C.DisableTorchFunctionSubclass():
            found = function(*args, **(kwargs or {}))
            if not isinstance(found, Tensor):
                return found
            return found.as_subclass(Tensor if name in ("to", "cpu") else cls)


def elsewhere(x: Tensor) -> Tensor:
    """The same numbers on the pretended device."""
    return x.as_subclass(Elsewhere)
