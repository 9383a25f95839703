"""What runs inside a Ray job: `python -m sweeps.job COMMAND ...`, in the uploaded folder.

It unpacks what travelled beneath `.luceloop/` and goes on as the command line.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from luceloop.core.parsing import dotted, set_dotted
from luceloop.core.storage import Folder, is_url, make_folder, write_whole
from luceloop.sweeps.output import Output
from luceloop.sweeps.upload import CONFIG, ENVIRONMENT, FILE_KEYS


def main() -> None:
    """Entry point of a job."""
    from luceloop.sweeps import cli

    if "--output" not in sys.argv and not os.environ.get("LUCELOOP_OUTPUT"):
        cli.fail("--output=None: must be given, or $LUCELOOP_OUTPUT set on the cluster's nodes", 2)
    _read_environment(ENVIRONMENT)
    if CONFIG.exists():
        with cli.reporting():
            _keep_files(CONFIG, _output(sys.argv))
    cli.main()


def _read_environment(path: Path) -> None:
    path.chmod(0o600)  # unpacking forgot it
    os.environ |= json.loads(path.read_text())


def _output(arguments: list[str]) -> Output:
    """The folders that the command will use."""
    output, storage = _option(arguments, "--output"), _option(arguments, "--storage")
    return Output.of(Path(output) if output else None, storage)


def _option(arguments: list[str], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


def _keep_files(file: Path, output: Output) -> None:
    """Copy files that came with the configuration to where every node and a later job finds them.

    Copies go by content: sweeps that use the same file share one.
    """
    plain: dict[str, Any] = yaml.safe_load(file.read_text())
    for key in FILE_KEYS:
        name = dotted(plain, key)
        if name is not None and not is_url(name) and not Path(name).is_absolute():
            set_dotted(plain, key, str(_keep(Path(name), output.files)))
    file.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def _keep(file: Path, folder: Folder) -> Folder:
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:24]
    kept = folder / f"{file.stem}-{digest}{file.suffix}"
    if not kept.exists():
        make_folder(folder)
        write_whole(content, kept)
    return kept


if __name__ == "__main__":
    main()
