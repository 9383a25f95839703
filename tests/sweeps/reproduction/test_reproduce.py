"""`luceloop reproduce` on a small sweep: it runs once, serves several figures, and is answered."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from luceloop.analysis.reading.answers import load_answers
from luceloop.analysis.reading.results import load_results
from luceloop.core.config.parsing import at_point
from luceloop.core.errors import ConfigError
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.reproduction import drawing
from luceloop.sweeps.reproduction.catalogue import FIGURES, find_figure
from luceloop.sweeps.reproduction.sweeps import config_of, done_points, find_sweep
from tests.support import ALONE, Cli, run_main

SMALL = ["learner={name: empirical}", "data.size=300", "seeds=3", "iterations=4", ALONE]


@pytest.fixture(scope="module")
def reproduced(local_ray, empty_store, tmp_path_factory) -> Path:
    """An output folder in which Figure 4 was reproduced."""
    output = tmp_path_factory.mktemp("output")
    (output / "mlflow.db").write_bytes(empty_store.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main("reproduce", "figure-4", *SMALL, "--output", str(output)) == 0
    return output


def test_a_figure_is_run_drawn_and_answered(reproduced: Path):
    output = Output(reproduced)
    [sweep] = output.sweeps()
    page = (reproduced / "reproduction" / "figure-4.md").read_text()
    for name in ("samples", "reward_mean"):
        assert f"](figure-4/{name}.png)" in page
        assert (reproduced / "reproduction" / "figure-4" / f"{name}.pdf").exists()
    results = load_results(output.tracking_uri, sweep.id)
    verdicts = [v for v in load_answers(results) if v.claim.of == "Figure 4"]
    assert len(verdicts) == 2
    for verdict in verdicts:
        assert f"* {verdict.claim.says} **{verdict.words}**" in page
    command = shlex.join(["luceloop", "run", "mog", *SMALL])
    assert f"From `{command}`, sweep {sweep.id}." in page


def test_other_figures_of_the_same_sweep_run_nothing(reproduced: Path, cli: Cli, tmp_path):
    where = ["--output", str(reproduced), "--to", str(tmp_path)]
    for name in ("figure-5", "6"):
        ran = cli("reproduce", name, *SMALL, *where)
        assert ran.code == 0 and "iteration" not in ran.out, ran.err
    assert len(Output(reproduced).sweeps()) == 1
    assert (tmp_path / "figure-6" / "density.png").exists()
    assert "settles at the law" in (tmp_path / "figure-6.md").read_text()


def test_the_density_is_measured_on_the_samples_that_are_kept(reproduced: Path):
    output = Output(reproduced)
    [folder] = output.sweeps()
    runs = load_results(output.tracking_uri, folder.id, "off").runs
    index, point = next(
        (i, p) for i, p in Ledger(folder.ledger, False).points.items() if p.values["lam"] == 1
    )
    config = at_point(folder.config(), point.values)
    found = drawing._rewards(runs, index, config)
    assert found.shape == (3, 500) and found.max() <= 0
    # The reward of mode 0 at (5, 0) with r_min = 1, by hand.
    with np.load(folder.preview(index, 4)) as content:
        distance = np.linalg.norm(content["samples"] - [5.0, 0.0], axis=-1)
    assert np.allclose(found, -np.maximum(0, distance - 1), atol=1e-5)


def test_without_a_name_what_takes_a_gpu_is_named_and_not_run(
    reproduced: Path, cli: Cli, tmp_path, monkeypatch
):
    quick = [figure for figure in FIGURES if figure.preset != "moons"]
    monkeypatch.setattr("luceloop.sweeps.cli.reproducing.FIGURES", quick)
    overrides = [each for each in SMALL if "learner" not in each]  # images have another one
    monkeypatch.setattr(
        "luceloop.sweeps.cli.reproducing.config_of",
        lambda figure, given: config_of(figure, SMALL if figure.preset == "mog" else ()),
    )
    ran = cli("reproduce", *overrides, "--output", str(reproduced), "--to", str(tmp_path))
    assert ran.code == 0, ran.err
    page = (tmp_path / "README.md").read_text()
    order = [page.index(f"## {figure.title}\n") for figure in quick]
    assert order == sorted(order)
    text = "run it with: luceloop reproduce figure-2"
    assert "Not drawn: no sweep of cifar10-airplane has ended here" in page and text in page
    assert len(Output(reproduced).sweeps()) == 1


def test_sweeps_are_known_by_what_decides_their_numbers(reproduced: Path):
    output, figure = Output(reproduced), find_figure("figure-4")
    found = find_sweep(
        config_of(figure, [*SMALL, "description=other", "resources.threads=2"]), output
    )
    assert found is not None and done_points(found) == 2
    assert find_sweep(config_of(figure, [*SMALL, "curation.k=3"]), output) is None


def test_names_that_are_no_figures_are_refused(cli: Cli, tmp_path):
    ran = cli("reproduce", "figure-12", "--output", str(tmp_path))
    assert ran.code == 2 and ran.err.startswith("NAME='figure-12': must be one of figure-2, ")
    with pytest.raises(ConfigError):
        find_figure("1")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_has_a_preset_with_claims_of_it_and_a_point_to_draw(figure):
    config = read_config(figure.preset, list(figure.overrides))
    assert any(claim.of == figure.title for claim in config.claims)
    for key, value in figure.point.items():
        assert value in (config.search.space[key].values or [])
