"""Starting a sweep: checked whole, its folder made, nothing run yet."""

from __future__ import annotations

from luceloop.core.config.naming import describe
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import try_writing
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.run.check import check


def create(config: SweepConfig, output: Output, identity: str | None = None) -> SweepFolder:
    """Check a configuration and make the folder of a new sweep of it.

    Args:
        config: of the sweep.
        output: the output folder.
        identity: the sweep's id, where one was chosen before; a new one if not given.

    Raises:
        ConfigError: if a point cannot run, or the storage cannot be written; nothing is made then.
    """
    check(config)
    if config.extends and config.extends not in {sweep.id for sweep in output.sweeps()}:
        raise ConfigError("extends", config.extends, f"is no id of a sweep under {output.path}")
    if output.named_storage is not None:
        try_writing("--storage", output.named_storage)
    return output.create_sweep(config, describe(config), identity)
