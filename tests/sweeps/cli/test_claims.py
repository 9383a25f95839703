"""Claims of a sweep as `show` and the report answer them, and those that cannot be tested."""

from __future__ import annotations

import pytest
import yaml

from luceloop.analysis.reading.answers import load_answers
from luceloop.analysis.reading.results import load_results
from luceloop.sweeps.record.folders import Output
from tests.support import ALONE, QUICK, Cli, Finished

CLAIMS = [
    {"says": "Curation helps.", "point": {"beta": 10}, "above": {"point": {"beta": 0}}},
    {"says": "Nothing grows by a million.", "above": {"at": 0}, "by": 1e6},
    {"says": "As forecast.", "near": "forecast", "within": 5},
]


def test_show_and_the_report_answer_alike(local_ray, cli: Cli, output, tmp_path):
    file, where = tmp_path / "s.yaml", ["--output", str(output)]
    content = {
        "data": {"name": "eight_gaussians", "size": 200},
        "learner": {"name": "empirical"},
        "lam": 1,
        "iterations": 2,
        "seeds": 4,
        "search": {"beta": {"grid": [0, 10]}},
        "claims": CLAIMS,
    }
    file.write_text(yaml.safe_dump(content))
    assert cli("run", str(file), ALONE, *where, QUICK).code == 0
    lines = [line for line in cli("show", "latest", *where).out.splitlines() if "claim:" in line]
    folder = Output(output).find("latest")
    verdicts = load_answers(load_results(Output(output).tracking_uri, folder.id))
    assert [verdict.answer for verdict in verdicts] == ["holds", "contradicted", "holds"]
    assert lines == [f"claim: {each.claim.says}  {each.words}" for each in verdicts]
    compared = cli("compare", "latest", *where).out.splitlines()
    assert [line for line in compared if "claim:" in line] == lines
    page = tmp_path / "r.html"
    assert cli("report", "latest", "-o", str(page), *where).code == 0
    assert "Curation helps." in page.read_text() and "contradicted: " in page.read_text()


def test_a_sweep_without_claims_says_nothing_of_them(finished: Finished, cli: Cli):
    content = cli("show", "latest", "--output", str(finished.output)).out
    assert content.count("claim: ") == 5  # those of the preset `mog`
    assert "undecided: no such point has run to its end" in content  # λ=1 is not among its points


REFUSED = [
    ({"metric": "rewrd", "above": 0}, "claims.0.metric='rewrd': must be one of "),
    ({"at": 99, "above": 0}, "claims.0.at=99: must be at most iterations=6"),
    ({"above": {"at": 7}}, "claims.0.at=7: must be at most"),
    ({"point": {"curation.bta": 1}, "above": 0}, "curation.bta=1: unknown key"),
]


@pytest.mark.parametrize(("claim", "line"), REFUSED, ids=str)
def test_a_claim_about_nothing_is_refused_before_anything_runs(cli: Cli, claim, line):
    text = yaml.safe_dump([{"says": "x", **claim}], default_flow_style=True, width=1000).strip()
    ran = cli("validate", "demo", f"claims={text}")
    assert ran.code == 2 and ran.err.startswith(line) and ran.err.count("\n") == 1
