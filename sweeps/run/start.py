"""Starting a sweep, or an extension of one: checked whole, its folder made, nothing run yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import SecretStr

from luceloop.core.config.naming import describe
from luceloop.core.config.parsing import override, parse_config, plain_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.config.webhooks import default_address
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import try_writing
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.holding import held
from luceloop.sweeps.record.mirror import find_or_fetch, mirrored
from luceloop.sweeps.run.address import check_session
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
    check_session()
    check(config)
    given = config.notify
    address = default_address() if given is None else given.get_secret_value()
    if config.extends and config.extends not in {sweep.id for sweep in output.sweeps()}:
        raise ConfigError("extends", config.extends, f"is no id of a sweep under {output.path}")
    if output.named_storage is not None:
        try_writing("--storage", output.named_storage)
    return output.create_sweep(config, describe(config), identity, address)


def extension(wanted: str, overrides: Sequence[str], output: Output) -> tuple[SweepConfig, Output]:
    """What runs the sweep that `wanted` names with other settings, and takes its rows.

    Args:
        wanted: the sweep; its whole id, if its record is to be read from the storage.
        overrides: `key=value` in which the extension differs.
        output: the output folder.

    Returns:
        The extension's configuration, and its folders: the storage is that of the sweep if no other
        is named.

    Raises:
        ConfigError: if there is no such sweep, or an override does not fit.
        StorageError: if the storage does not answer.
    """
    found = find_or_fetch(output, wanted)
    if not found.ledger.exists():  # it ran on another machine: its rows come from the storage
        with held(found), mirrored(found):
            pass
    plain = override(plain_config(found.config()), list(overrides)) | {"extends": found.id}
    config = parse_config(plain)
    if config.notify is None and found.address:
        config = config.model_copy(update={"notify": SecretStr(found.address)})
    if output.named_storage is None and found.has_own_storage:
        output = replace(output, named_storage=found.storage)
    return config, output


def choose_address(folder: SweepFolder, named: str | None) -> None:
    """Say whom a sweep that goes on tells of itself.

    Args:
        folder: the sweep's folder.
        named: an address; if not given, the one that it has, else that of the environment.

    Raises:
        ConfigError: if the environment names none that can be.
    """
    address = named or (not folder.address and default_address())
    if address:
        folder.keep_address(address)
