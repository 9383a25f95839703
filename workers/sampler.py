"""The sampler actor: a thin shell around a `Loop`'s shards and, of large networks, its fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
from torch import Tensor

from luceloop.core.config.dependencies import dependencies
from luceloop.core.device import make_repeatable
from luceloop.core.io.holdings import Guard
from luceloop.core.io.places import open_folder
from luceloop.core.io.plugins import enter_folder
from luceloop.core.learners.base import Fitted, to_device
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.state import LoopState
from luceloop.core.pool.shards import ShardResult, ShardTask
from luceloop.workers.arrays import from_numpy
from luceloop.workers.devices import granted_device
from luceloop.workers.messages import Work


class Sampler:
    """Works for whichever trial asks; every call carries all it needs."""

    def __init__(self, threads: int, cache: str | None = None, folder: str | None = None) -> None:
        """Prepare the process.

        Args:
            threads: CPU threads of torch.
            cache: folder of trained p_0 and classifiers.
            folder: the user's, as `name_folder` calls it.
        """
        if folder is not None:
            enter_folder(folder)
        make_repeatable(threads)
        self._cache = None if cache is None else open_folder("cache", cache)
        self._loop: Loop | None = None
        self._model: tuple[str, Mapping[str, Tensor]] = ("", {})
        self._guard = Guard()

    def generate(
        self, work: Work, model: Mapping[str, np.ndarray], name: str, task: ShardTask
    ) -> ShardResult:
        """One shard of p_t's pool.

        Args:
            work: the point whose pool it is.
            model: p_t's weights.
            name: of these weights among all; those of the last call are still on the device.
            task: which shard, and what of it is wanted.

        Raises:
            ChangedFileError: if this node has another version of a file of the user's.
            DeviceError: if the process cannot use the GPU it was granted.
        """
        loop = self._loop_of(work)
        if name != self._model[0]:
            self._model = ("", {})  # the old ones go before the new ones come
            self._model = name, from_numpy(model, loop.device)
        return loop.sampler(self._model[1], task)

    def fit(self, work: Work, row: int, start: Mapping[str, Any] | None) -> Fitted:
        """The next model of one row.

        Args:
            work: the point whose row it is.
            row: position in its seeds.
            start: plain `LoopState` of the row, arrays for tensors; None for p_0.

        Raises:
            ChangedFileError: if this node has another version of a file of the user's.
        """
        state = None if start is None else LoopState.of(from_numpy(start, "cpu"))
        fitted = self._loop_of(work).fitter.fit(state, [row])
        return Fitted(to_device(fitted.state, "cpu"), fitted.loss)

    def _loop_of(self, work: Work) -> Loop:
        if self._loop is None or work.point != self._loop.config:
            self._guard.check(work.files, dependencies([work.point]) if work.files else ())
            self._loop = Loop(work.point, granted_device(), self._cache)
        return self._loop


RETRIES = 4
"""Times that work is begun again whose process died; what ends that many would end any."""
# A restarted actor repeats the calls it was killed in; a shard is the same whoever computes it.
SamplerActor = ray.remote(max_restarts=-1, max_task_retries=RETRIES)(Sampler)
