"""A real sweep on the GPU: coloured digits in CIFAR-10's files, a trial killed, and resumed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.common import Bench, coloured_digits

COMMAND = "from luceloop.sweeps.cli.app import main; main()"


def run(bench: Bench) -> None:
    """Run it once undisturbed and once with its driver killed, and compare the tables."""
    with tempfile.TemporaryDirectory(prefix="luceloop-gpu-") as folder:
        root = Path(folder)
        _write_archive(root, 60 if bench.tiny else 6000)
        tables = []
        for name, kill in (("undisturbed", False), ("killed", True)):
            start = time.perf_counter()
            _run(root, root / name, bench.tiny, kill)
            bench.say(f"a sweep, {name}: {time.perf_counter() - start:.0f} s")
            tables.append(_table(root, root / name))
        bench.check("tables, undisturbed and killed", bool(tables[0]) and tables[0] == tables[1])


def _assignments(root: Path, tiny: bool) -> list[str]:
    given = [f"data.root={root}", "pool_size=null", "seeds=[1,2]", "lam=0.5"]
    given.append(f"iterations={2 if tiny else 3}")
    if not tiny:
        sizes = ["kept_size=100", "learner.initial_steps=1000", "learner.steps=100"]
        return [*given, *sizes, "sampling.shard_size=500", "classifier.epochs=3"]
    unet = "{channels: 32, multipliers: [1], blocks: 1, attention: [], head_channels: 32}"
    sizes = [f"learner.unet={unet}", "learner.initial_steps=2", "learner.steps=2", "kept_size=8"]
    sizes += ["learner.batch_size=4", "learner.ot_batch=4", "learner.compile=false", "quality=null"]
    sizes += [
        "curation.k=2",
        "learner.nfe=4",
        "learner.precision=fp32",
        "sampling.shard_size=8",
        "classifier={name: small_cnn, epochs: 1}",
    ]
    return [*given, *sizes]


def _run(root: Path, output: Path, tiny: bool, kill: bool) -> None:
    """Run the sweep to its end; if asked, kill its driver midway and resume."""
    sweep = ["run", "cifar10-confidence", *_assignments(root, tiny), "--no-figures"]
    process = _start(root, output, sweep)
    if kill:
        while _recorded(output) < 2 and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = _start(root, output, ["resume", "latest", "--no-figures"])
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the sweep ended with {process.returncode}: {printed[-2000:]}")


def _start(root: Path, output: Path, arguments: list[str]) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        env=environment | {"LUCELOOP_OUTPUT": str(output)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _recorded(output: Path) -> int:
    lines = [
        line for f in output.glob("sweeps/*/ledger.jsonl") for line in f.read_text().split("\n")
    ]
    return sum('"iteration"' in line for line in lines)


def _table(root: Path, output: Path) -> list[str]:
    """Rows that do not tell times, without the sweep's own name."""
    [ledger] = output.glob("sweeps/*/ledger.jsonl")
    found = []
    for line in ledger.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "iteration":
            metrics = {k: v for k, v in event["metrics"].items() if not k.startswith("seconds/")}
            found.append(json.dumps([event["point"], event["iteration"], metrics], sort_keys=True))
    return sorted(found)


def _write_archive(root: Path, count: int) -> None:
    """CIFAR-10's files, of coloured digits."""
    images, labels = coloured_digits(count)
    pixels = ((images + 1) * 127.5).round().byte().flatten(1).numpy()
    folder, size = root / "cifar-10-batches-py", count // 6
    folder.mkdir()
    for i, name in enumerate([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]):
        part = slice(i * size, (i + 1) * size)
        content = {"data": pixels[part], "labels": labels[part].tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    names = {"label_names": [str(digit) for digit in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
