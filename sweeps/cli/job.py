"""What runs inside a Ray job: `python -m luceloop.sweeps.cli.job COMMAND ...`, in the upload.

It takes what travelled beneath `.luceloop/`, enters the user's folder, and goes on as the command
line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import yaml

from luceloop.core.config.parsing import parse_config, plain_config
from luceloop.core.io.plain import read_yaml
from luceloop.sweeps.cli import app
from luceloop.sweeps.cluster.kept import keep_files
from luceloop.sweeps.cluster.upload import CONFIG, ENVIRONMENT, FOLDER, NOTIFY, REVISION
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.revision import TRAVELLED


def main() -> None:
    """Entry point of a job."""
    if "--output" not in sys.argv and not os.environ.get("LUCELOOP_OUTPUT"):
        app.fail("--output=None: must be given, or $LUCELOOP_OUTPUT set on the cluster's nodes", 2)
    _read_environment(ENVIRONMENT)
    if NOTIFY.exists():
        NOTIFY.chmod(0o600)
    if REVISION.exists():
        os.environ[TRAVELLED] = str(REVISION.absolute())
    file = CONFIG.absolute()
    os.chdir(FOLDER)
    if file.exists():
        with app.reporting():
            _keep_files(file, _output(sys.argv))
    app.main()


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
    """Have the configuration that came along name files that stay."""
    config = parse_config(read_yaml(file.read_text(), "CONFIG", str(file)))
    plain = plain_config(keep_files(config, output))
    file.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


if __name__ == "__main__":
    main()
