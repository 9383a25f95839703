"""Fixtures of the tests of `core/`."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from luceloop.core.config.parsing import parse_config
from luceloop.core.config.point import PointConfig

_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are small: one thread is fastest, and sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_config() -> Callable[..., PointConfig]:
    """Builds a small loop on the learner `empirical`; keyword arguments replace top-level keys."""

    def build(**keys: Any) -> PointConfig:
        plain: dict[str, Any] = {
            "name": "test",
            "data": {"name": "eight_gaussians", "size": 60},
            "learner": {"name": "empirical"},
            "iterations": 2,
            "seeds": [3, 5],
        }
        return parse_config(plain | keys).point

    return build


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes source code to an importable module of its own and returns the module's name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written: list[str] = []

    def write(source: str) -> str:
        written.append(f"custom_code_{next(_numbers)}")
        (tmp_path / f"{written[-1]}.py").write_text(source)
        importlib.invalidate_caches()
        return written[-1]

    yield write
    for name in written:
        sys.modules.pop(name, None)
