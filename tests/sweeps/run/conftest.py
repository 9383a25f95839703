"""A sweep that nothing disturbs, which sweeps that something disturbs are compared with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.processes import LONG
from tests.support import curves, run_main


@pytest.fixture(scope="session")
def undisturbed_long(
    local_ray: None, tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> pd.DataFrame:
    """The table of `LONG`."""
    output = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(empty_store, output / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main(*LONG, "--output", str(output)) == 0
    return curves(output)
