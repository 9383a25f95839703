"""Tensors on their way through Ray's object store, which shares arrays without copying them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def to_numpy(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as arrays, which the object store shares without copying; others as they are."""
    return {
        name: to_numpy(value)
        if isinstance(value, Mapping)
        else value.detach().cpu().numpy()
        if isinstance(value, torch.Tensor)
        else value
        for name, value in nested.items()
    }


def from_numpy(nested: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The inverse; on the CPU tensors are views of the object store, never written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {
            name: from_numpy(value, device)
            if isinstance(value, Mapping)
            else torch.from_numpy(value).to(device)
            if isinstance(value, np.ndarray)
            else value
            for name, value in nested.items()
        }
