"""The Tune trainable of one configuration point: one `step` is one retraining iteration."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune

from luceloop.core.cache import save_atomically
from luceloop.core.device import settle
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.loop import IterationResult, Loop, LoopState
from luceloop.core.parsing import parse_config
from luceloop.core.storage import Folder, open_folder, open_whole
from luceloop.workers.pool import SamplerPool
from luceloop.workers.sampler import here

CHECKPOINT = "loop.pt"
"""File of a checkpoint folder: the loop's state and the rows of all iterations so far."""


class Trial(tune.Trainable):
    """Runs the loop of one point and reports a row per iteration.

    Its configuration:
        index: the point's number, repeated in every report.
        point: plain configuration of the point.
        cache: folder of trained p_0, a path or a URL.
        samplers: sampler actors, with `sampler_cpus` and `sampler_gpus` each.
        trial_gpus: GPUs of the trial itself.
        checkpoint: folder to go on from, a path or a URL, or None.
        reported: last iteration that is already on record, or -1.

    A report holds `index`, `iteration`, `metrics` (name to R floats) and `arrays` (a `preview`, and
    at t=0 `reward`, the rewards of p_0's pool; empty where the iteration had been computed before),
    or `failed` and `traceback` where the point cannot go on.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start a process: called once, then `reset_config` for every further point."""
        self._pool: SamplerPool | None = None
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another point in the same process."""
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        self._given = config
        self._cache = open_folder("cache", config["cache"])
        self._rows: dict[int, dict[str, list[float]]] = {}
        self._iterations: Iterator[IterationResult] | None = None
        self._state: LoopState | None = None
        self._arrays: dict[str, np.ndarray] = {}
        self._next = config["reported"] + 1
        if config["checkpoint"]:
            self._restore(open_folder("checkpoint", config["checkpoint"]))

    def step(self) -> dict[str, Any]:
        """Report the next iteration, computing whatever it takes."""
        try:
            return self._report()
        except (LoopError, ConfigError) as error:
            # Repeating would only fail again: this is the point's result.
            report = {
                "failed": str(error),
                "traceback": traceback.format_exc(),
                "done": True,
            }
            return {"index": self._given["index"], **report}

    def _report(self) -> dict[str, Any]:
        self._arrays = {}
        while self._next not in self._rows:
            if self._iterations is None:
                self._iterations = self._begin()
            result = next(self._iterations)
            self._state, self._arrays = result.state, {"preview": result.preview.numpy()}
            if result.reward is not None:
                self._arrays["reward"] = result.reward.numpy()
            self._rows[result.iteration] = {
                name: values.tolist() for name, values in result.metrics.items()
            }
        iteration = self._next
        self._next += 1
        return {
            "index": self._given["index"],
            "iteration": iteration,
            "metrics": self._rows[iteration],
            "arrays": self._arrays,
            "done": iteration >= self._given["point"]["iterations"],
        }

    def _begin(self) -> Iterator[IterationResult]:
        config, given = parse_config(self._given["point"]), self._given
        settle(config.resources.threads)
        loop = Loop(config, here(), cache=self._cache)
        if not given["samplers"]:
            return loop.run(self._state)
        if self._pool is None:
            self._pool = SamplerPool(
                given["samplers"],
                given["sampler_cpus"],
                given["sampler_gpus"],
                config.resources.threads,
                given["cache"],
                takes_part=given["trial_gpus"] > 0 and given["sampler_gpus"] > 0,
            )
        pool, point = self._pool, given["point"]
        alike = (given["trial_gpus"] > 0) == (given["sampler_gpus"] > 0)
        apart = loop.one_by_one and len(config.seeds) > 1 and alike
        fit = (lambda start: pool.fit(loop, point, start)) if apart else None
        return loop.run(self._state, lambda *shards: pool.run(loop, point, *shards), fit)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the loop's state after the last computed iteration, and every row so far."""
        state = None if self._state is None else self._state.plain()
        content = {"state": state, "rows": self._rows, "next": self._next}
        save_atomically(content, Path(checkpoint_dir) / CHECKPOINT)
        # Tune keeps a copy of the last report with each checkpoint; this one has been delivered.
        self._arrays.clear()

    def load_checkpoint(self, checkpoint: Mapping[str, Any] | str | None) -> None:
        """Go on from a checkpoint of this attempt, which knows what was reported by then."""
        assert isinstance(checkpoint, str)
        self._next = self._restore(Path(checkpoint))["next"]

    def _restore(self, folder: Folder) -> dict[str, Any]:
        content = read_checkpoint(folder)
        self._rows = content["rows"]
        self._state = LoopState.of(content["state"]) if content["state"] else None
        self._iterations = None
        return content

    def cleanup(self) -> None:
        """End the process's sampler actors."""
        if self._pool is not None:
            self._pool.close()


def read_checkpoint(folder: Folder) -> dict[str, Any]:
    """What `Trial.save_checkpoint` wrote; nothing is unpickled but tensors and plain types."""
    with open_whole(folder / CHECKPOINT) as file:
        content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    if content["state"] is not None:
        LoopState.of(content["state"])  # else it is an older version's, and cannot be read either
    return content
