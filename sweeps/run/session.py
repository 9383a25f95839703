"""The Ray session of a run: joined or started, and ended again."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import ray
from ray.job_config import JobConfig

import luceloop
from luceloop.core.io.plugins import BESIDE

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Resuming goes by our ledger; Tune's own snapshot would cost 50 ms a trial.
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_MAX_PENDING_TRIALS_PG": "4",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the ledger has them; a line says what happened
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
}
"""How Ray and Tune behave in a sweep."""


@contextmanager
def ray_session() -> Iterator[None]:
    """Hold a Ray session, and let SIGTERM, a cluster's polite kill, end a run as Ctrl-C does.

    A session that the caller has started is left as it is; else that of `$RAY_ADDRESS` (set inside
    a Ray job) is joined, or one is started in this process and ended with it.
    """
    os.environ |= ENVIRONMENT
    owner = not ray.is_initialized()
    if owner:
        _start()
    main = threading.current_thread() is threading.main_thread()
    if main:
        before = signal.signal(signal.SIGTERM, _interrupt)  # after ray.init, which sets its own
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # failed points are on record
    try:
        yield
    finally:
        if owner:
            gc.collect()  # a handle that is freed after Ray has ended would end this process, too
            ray.shutdown()
        if main:
            signal.signal(signal.SIGTERM, before)


class _OwnPath(JobConfig):
    """Keeps Ray from putting the driver's current folder first on the path of its workers.

    There a user's `luceloop.py` or `queue.py` would stand in for ours or Python's. Ray leaves the
    path alone where a job has a working directory.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def _start() -> None:
    address = os.environ.get("RAY_ADDRESS", "local")
    if luceloop.__version__ == luceloop.NOT_INSTALLED:  # else workers find it as we did
        paths = [os.environ.get("PYTHONPATH", ""), str(BESIDE)]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    ray.init(
        address=address,
        job_config=_OwnPath(),
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False if address == "local" else None,
    )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
