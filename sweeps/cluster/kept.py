"""Files that came to a cluster with a sweep, kept where every node and a later job finds them.

Copies go by content: sweeps that use the same file share one.
"""

from __future__ import annotations

from pathlib import Path

from luceloop.core.config.parsing import parse_config, plain_config, set_dotted
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.io.fingerprints import LENGTH, digest
from luceloop.core.io.places import Folder, is_url, make_folder, write_whole
from luceloop.sweeps.record.folders import Output


def keep_files(config: SweepConfig, output: Output) -> SweepConfig:
    """Copy files beneath the current folder that a configuration names; it, naming the copies.

    Args:
        config: of a sweep that was submitted.
        output: its folders, in which `files/` takes the copies.
    """
    plain = plain_config(config)
    for key, name in config.point.files().items():
        if not is_url(name) and Path(name).is_relative_to(Path.cwd()):
            set_dotted(plain, key, str(_keep(Path(name), output.files)))
    return parse_config(plain).model_copy(update={"notify": config.notify})


def _keep(file: Path, folder: Folder) -> Folder:
    content = file.read_bytes()
    kept = folder / f"{file.stem}-{digest(content)[:LENGTH]}{file.suffix}"
    if not kept.exists():
        make_folder(folder)
        write_whole(content, kept)
    return kept
