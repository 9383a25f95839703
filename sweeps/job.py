"""What runs inside a Ray job: `python -m sweeps.job COMMAND ...`, in the uploaded folder.

It unpacks what travelled beneath `.luceloop/` and goes on as the command line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from core.parsing import dotted, set_dotted
from sweeps.output import Output
from sweeps.upload import CONFIG, ENVIRONMENT, FILE_KEYS


def main() -> None:
    """Entry point of a job."""
    from sweeps import cli

    if "--output" not in sys.argv and not os.environ.get("LUCELOOP_OUTPUT"):
        cli.fail("--output=None: must be given, or $LUCELOOP_OUTPUT set on the cluster's nodes", 2)
    _read_environment(ENVIRONMENT)
    if CONFIG.exists():
        _keep_files(CONFIG, _output(sys.argv))
    cli.main()


def _read_environment(path: Path) -> None:
    path.chmod(0o600)  # unpacking forgot it
    os.environ |= json.loads(path.read_text())


def _output(arguments: list[str]) -> Output:
    """The folder that the command will use."""
    given = arguments[arguments.index("--output") + 1] if "--output" in arguments else None
    return Output.of(Path(given) if given else None)


def _keep_files(file: Path, output: Output) -> None:
    """Copy files that came with the configuration to where every node and a later job finds them.

    Copies go by content: sweeps that use the same file share one.
    """
    plain: dict[str, Any] = yaml.safe_load(file.read_text())
    for key in FILE_KEYS:
        name = dotted(plain, key)
        if name is not None and not Path(name).is_absolute():
            set_dotted(plain, key, str(_keep(Path(name), output.files)))
    file.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def _keep(file: Path, folder: Path) -> Path:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:24]
    kept = folder / f"{file.stem}-{digest}{file.suffix}"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{kept.name}.{os.getpid()}"
        shutil.copy(file, unfinished)
        unfinished.replace(kept)
    return kept


if __name__ == "__main__":
    main()
