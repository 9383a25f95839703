"""The command line: one clear line for what cannot run, and nothing half-written."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from filelock import FileLock

from luceloop.sweeps.record.folders import Output
from tests.support import Cli, Finished

BAD = [
    (["run"], "Missing argument 'CONFIG'"),
    (["frobnicate"], "No such command 'frobnicate'"),
    (["run", "demo", "--bogus"], "No such option"),
    (["run", "demmo"], "CONFIG='demmo'", "did you mean demo?"),
    (["run", "missing.yaml"], "CONFIG='missing.yaml'"),
    (["run", "demo", "notanassignment"], "must read key=value"),
    (["run", "demo", "learner.stesp=3"], "learner.stesp=3: unknown key", "did you mean steps?"),
    (["run", "demo", "curation.flip=-1"], "curation.flip=-1", "greater than or equal to 0"),
    (["run", "demo", "search.curation.flip.grid=[0,-1]"], "curation.flip=-1"),
    (["run", "demo", "curation.users.0.beta=x"], "curation.users.0.beta='x'", "valid number"),
    (["run", "demo", "curation.k=0"], "curation.k=0", "whole number from 1, or inf"),
    (["run", "demo", "lam=-1"], "lam=-1", "greater than or equal to 0"),
    (["run", "demo", "seeds=[]"], "seeds=[]", "at least one seed"),
    (["run", "demo", "pool_size=3", "curation.k=4"], "pool_size=3", "must be at least"),
    (["run", "demo", "data.name=npz", "data.path=gone.npz"], "data.path=", "no such file"),
    (["run", "demo", "real_size=9999"], "real_size=9999", "at most data.size"),
    (["run", "demo", "reward.name=no_such_module:f"], "reward.name=", "cannot be imported"),
    (["run", "demo", "reward.mode=8"], "reward.mode=8", "at most 7"),
    (["run", "demo", "resources.trial.cpus=4096"], "resources=", "4096 CPUs"),
    (
        ["run", "demo", "search.objective.metric=exp_reward_mean"],
        "search.objective.metric='exp_reward_mean': is another quantity for every beta",
    ),
    (["run", "demo", "search.objective.metric=reward"], "search.objective.metric='reward'"),
    (["run", "demo", "search.nope.grid=[1]"], "nope=1: unknown key"),
    (["validate", "demo", "learner.nfe=7"], "learner.nfe=7", "multiple of 4"),
    (["forecast", "demo", "-o", "table.txt"], "-o='table.txt'", ".csv or .parquet"),
    (["forecast", "demo", "lam=-1"], "lam=-1", "greater than or equal to 0"),
    (["forecast", "demo", "--from", "latest"], "SWEEP='latest'", "there are no sweeps"),
    (["forecast", "demo", "reward.name=math:sqrt"], "reward math:sqrt raised ValueError"),
    (["plot", "latest", "--forecast", "exact"], "'--forecast'"),
    (["report", "latest"], "SWEEP='latest'", "there are no sweeps"),
    (["export", "latest", "-o", "table.txt"], "-o='table.txt'", ".csv or .parquet"),
    (["show", "latest"], "SWEEP='latest'", "there are no sweeps"),
    (["ui", "--port", "0"], "'--port'"),
    (["run", "demo", "name=latest"], "name='latest'", "the newest sweep"),
    (["validate", "demo", "name=latest"], "name='latest'", "the newest sweep"),
    (["run", "demo", "search.beta.grid=[1,10,1]"], "search.curation.beta=1: is listed twice"),
    (["run", "demo", "search.lam.grid=[1,.inf,inf]"], "search.lam='inf': is listed twice"),
    (["validate", "demo", "search.learner.lr.grid=[1e-3,0.001]"], "lr=0.001: is listed twice"),
    (["run", "demo", "search={sampler: random, trials: 2, k: {choice: [2,2.0]}}"], "k=2.0: is"),
    (["run", "demo", "resources.samplers=1000"], "resources.samplers=1000", "16 can share each"),
    (["validate", "demo", "resources.threads=1000"], "resources.threads=1000", "16 can share"),
    (["run", "demo", "--storage", "a\nb"], "--storage='a\\nb'", "control characters"),
    (["run", "demo", "--output", "a\nb"], "--output='a\\nb'", "control characters"),
    (["forecast", "demo", "-o", "a\x1b.csv"], "-o='a\\x1b.csv'", "control characters"),
    (["run", "mog", "classifier.nme=x"], "classifier.name=None", "did you mean name by 'nme'?"),
    (["run", "demo", ".".join("a" * 5000) + "=1"], "may have at most 32 parts"),
    (["run", "demo", "data.size=" + "9" * 5000], "data.size=", "at most 100 digits"),
    (["run", "demo", "reward.args=&z {q: *z}"], "holds itself"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: ascii(" ".join(case[0]))[1:80])
def test_bad_input_gets_one_line_exit_2_and_writes_nothing(case, cli: Cli, tmp_path, monkeypatch):
    arguments, *expected = case
    output = tmp_path / "output"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUCELOOP_OUTPUT", str(output))
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # judge by this machine alone
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.err.strip().splitlines()) == 1 and len(ran.err) <= 1300
    assert all(part in ran.err for part in expected), ran.err
    assert not list(tmp_path.iterdir())


QUITTERS = {
    "import sys\nsys.exit()\n": "it called sys.exit() (quitter.py:2)",
    "import os\nos._exit(0)\n": "it called os._exit(0) (quitter.py:2)",
    "raise KeyboardInterrupt\n": "it raised KeyboardInterrupt (quitter.py:1)",
    "def f(x):\n    raise SystemExit(0)\n": "reward quitter:f called sys.exit(0)",
    "def f(x):\n    import os\n    os._exit(0)\n": "reward quitter:f called os._exit(0)",
    "class f:\n    supremum = property(lambda self: 1 / 0)\n    def __call__(self, x):\n"
    "        return x\n": "reward.name='quitter:f': raised ZeroDivisionError: division by zero",
    "def f(x):\n    return x[:, 0] * 1j\n": "returned a tensor of complex64",
}


@pytest.mark.parametrize("source", QUITTERS)
def test_code_that_would_end_the_command_is_named_instead(source, cli: Cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quitter.py").write_text(source)
    monkeypatch.delitem(sys.modules, "quitter", raising=False)
    ran = cli("forecast", "demo", "reward.name=quitter:f", "--output", str(tmp_path / "output"))
    monkeypatch.delitem(sys.modules, "quitter", raising=False)
    assert ran.code == 2 and ran.out == ""
    assert QUITTERS[source] in ran.err and len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "output").exists()


NOT_FINITE = """
import torch

class Data:
    shape, n_classes = (2,), 0

    def __init__(self, size):
        self.size = size

    def draw(self, size, generator):
        return torch.full((size, 2), float("nan"))

    def classify(self, x):
        return None
"""


def test_a_forecast_of_data_with_nan_is_no_table(cli: Cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holes.py").write_text(NOT_FINITE)
    reward = "reward={name: mode_distance, center: [0, 0]}"
    where = ["--output", str(tmp_path / "output")]
    ran = cli("forecast", "demo", "data.name=holes:Data", reward, *where)
    assert ran.code == 2 and ran.out == ""
    assert ran.err.startswith("data.name='holes:Data': has samples that are NaN or infinite")


def test_a_file_that_is_not_yaml_is_refused_in_one_line(cli: Cli, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("data: {name: eight_gaussians\nlam: [")
    ran = cli("run", str(file), "--output", str(tmp_path / "output"))
    assert ran.code == 2 and len(ran.err.strip().splitlines()) == 1
    assert "is not readable YAML" in ran.err


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
FILES = [
    ("lam: 1\nbeta: 2\nlam: 3\n", "key lam is repeated, in lines 2 and 4"),
    ("learner: {steps: 3, lr: 0.1, steps: 4}\n", "key learner.steps is repeated, in line 2"),
    ("search: {beta: {grid: [1]}, beta: {grid: [2]}}\n", "key search.beta is repeated, in line 2"),
    ("search: {beta: {grid: [1]}, curation.beta: {grid: [2]}}\n", "as beta and as curation.beta"),
    ("beta: 3\ncuration: {beta: 4}\n", "did you mean curation.beta?"),
    ("reward: {name: 'm:f', args: &z {q: *z}}\n", "reward.args.q holds itself"),
    (f"{BOMB}name: *a29\n", "holds more than 100000 values"),
    (f"{BOMB}seeds: *a29\n", "holds more than 100000 values"),
    (f"{BOMB}reward: {{name: 'm:f', args: {{x: *a29}}}}\n", "holds more than 100000 values"),
    ("reward: " + "{args: " * 40 + "}" * 40, "more than 32 lists and mappings inside each other"),
    ("real_size: " + "9" * 5000, "the number in line 2 may have at most 100 digits"),
    ("# " + "x" * 2_000_000, "at most 1000000 characters"),
]


@pytest.mark.parametrize(("text", "said"), FILES, ids=[said for _, said in FILES])
@pytest.mark.parametrize("command", ["run", "validate", "forecast"])
def test_a_file_that_says_too_much_is_refused_in_one_line(command, text, said, cli: Cli, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"data: {{name: two_moons}}\n{text}")
    ran = cli(command, str(file), "--output", str(tmp_path / "output"))
    assert ran.code == 2 and ran.out == "" and len(ran.err.strip().splitlines()) == 1
    assert said in ran.err and len(ran.err) < 600
    assert list(tmp_path.iterdir()) == [file]


def test_overrides_beat_what_a_file_searches_in_another_spelling(cli: Cli, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data: {name: two_moons}\nsearch: {curation: {beta: {grid: [1, 2, 3]}}}\n")
    where = ["--output", str(tmp_path / "output")]
    for given in ("search.beta.grid=[5,6]", "search.curation.beta={grid: [5,6]}"):
        ran = cli("forecast", str(file), given, "--no-figures", *where)
        assert ran.code == 0 and "β=5 λ=inf" in ran.out and "β=1 " not in ran.out


def test_a_description_with_brackets_is_shown_as_it_is(cli: Cli, tmp_path):
    given = "description='[/b] :smile: [red]'"
    ran = cli("forecast", "demo", given, "--output", str(tmp_path))
    assert ran.code == 0 and "[/b] :smile: [red]" in ran.out


def test_a_crowd_is_refused_on_the_ray_that_there_is(local_ray: None, cli: Cli, tmp_path):
    for given in ("resources.samplers=64", "resources.threads=65"):
        ran = cli("run", "demo", given, "--output", str(tmp_path / "output"))
        assert ran.code == 2 and "16 can share each of 4 CPUs" in ran.err
    assert not list(tmp_path.iterdir())


def test_yaml_cannot_construct_objects(cli: Cli, tmp_path):
    file = tmp_path / "evil.yaml"
    file.write_text(f"name: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    ran = cli("validate", str(file))
    assert ran.code == 2 and not (tmp_path / "made").exists()


def test_validate_counts_points_and_runs_nothing(cli: Cli, tmp_path, monkeypatch):
    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).normal(size=(40, 3)))
    file = tmp_path / "mine.yaml"
    file.write_text(
        "data: {name: npz, path: mine.npz}\nreward: {center: [0, 0, 1]}\n"
        "search: {k: {grid: [1, 2, inf]}, learner.lr: {grid: [0.1, 0.01]}}\n"
    )
    monkeypatch.chdir(tmp_path)
    ran = cli("validate", "mine.yaml")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("ok: 6 points")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.npz", "mine.yaml"]


def test_presets_lists_every_preset(cli: Cli):
    ran = cli("presets")
    assert ran.code == 0
    for name in ("demo", "mog", "moons", "mog-search"):
        assert name in ran.out


def test_list_and_show_tell_how_a_sweep_stands(finished: Finished, cli: Cli):
    where = ["--output", str(finished.output)]
    listed = cli("list", *where)
    assert listed.code == 0 and "mog" in listed.out and "done" in listed.out
    by_name, by_latest = cli("show", "mog", *where), cli("show", "latest", *where)
    assert by_name.code == 0 and by_name.out == by_latest.out
    assert "β=10 λ=inf K=4" in by_name.out and "3/3" in by_name.out
    sweep = by_name.out.split()[1]
    assert cli("show", sweep[:12], *where).out == by_name.out
    assert cli("show", "nothing", *where).code == 2


def test_list_without_sweeps_says_how_to_start(cli: Cli, tmp_path):
    ran = cli("list", "--output", str(tmp_path))
    assert ran.code == 0 and "luceloop demo" in ran.out


def test_resuming_a_finished_sweep_changes_nothing(finished: Finished, cli: Cli, tmp_path):
    where = ["--output", str(finished.output)]
    assert cli("resume", "latest", *where).code == 0
    again = tmp_path / "again.csv"
    assert cli("export", "latest", "-o", str(again), *where).code == 0
    assert again.read_text() == finished.table.read_text()


def test_plot_writes_png_and_pdf_where_asked(finished: Finished, cli: Cli, tmp_path):
    ran = cli("plot", "latest", "--to", str(tmp_path / "f"), "--output", str(finished.output))
    assert ran.code == 0
    names = {file.name for file in (tmp_path / "f").iterdir()}
    assert {"reward_mean.png", "reward_mean.pdf", "samples.png", "class_shares.pdf"} <= names


def test_a_sweep_has_one_driver_at_a_time(finished: Finished, cli: Cli):
    where = ["--output", str(finished.output)]
    folder = Output(finished.output).find("latest")
    with FileLock(folder.path / "lock"):
        ran = cli("resume", "latest", *where)
    assert ran.code == 2 and "is being run by another process" in ran.err
    assert len(ran.err.strip().splitlines()) == 1


@pytest.mark.external
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["run"], ["submit", "--hlep"], ["presets"]],
    ids=str,
)
def test_what_needs_no_sweep_waits_for_neither_torch_nor_ray(arguments):
    script = (
        "import sys; from luceloop.sweeps.cli.app import main\n"
        f"sys.argv = ['luceloop', *{arguments}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.splitlines()[-1] == "[]"
