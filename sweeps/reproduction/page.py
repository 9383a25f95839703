"""The page of reproduced figures, in Markdown beside its pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from luceloop.sweeps.reproduction.catalogue import PaperFigure
from luceloop.sweeps.reproduction.drawing import Reproduced

HEAD = """# The paper's figures

Ferbach et al., *Self-Consuming Generative Models with Curated Data Provably Optimize Human
Preferences* (NeurIPS 2024, arXiv 2407.09499), drawn from several seeds by `luceloop reproduce`.
Beneath each figure stands what it claims, and whether our seeds show it: *holds*, *contradicted* or
*undecided*, by t-tests over the seeds that Holm's method adjusts within a sweep. The sentences are
ours, as we read the figures.
"""


def write_page(
    file: Path, found: Sequence[Reproduced], missing: Sequence[tuple[PaperFigure, str]]
) -> None:
    """Write the page.

    Args:
        file: of the page.
        found: figures that were drawn.
        missing: those that were not, each with the reason.
    """
    sections = {each.figure.number: _section(each, file.parent) for each in found}
    for figure, reason in missing:
        sections[figure.number] = f"## {figure.title}\n\n{figure.shows}\n\nNot drawn: {reason}.\n"
    parts = [HEAD, *(sections[number] for number in sorted(sections))]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(parts), encoding="utf-8")


def _section(each: Reproduced, folder: Path) -> str:
    lines = [f"## {each.figure.title}", "", each.figure.shows, ""]
    for drawn in each.drawn:
        path = Path(os.path.relpath(drawn.files[0], folder)).as_posix()
        lines += [f"![{drawn.caption}]({path})", "", f"*{drawn.caption}*", ""]
    lines += [f"* {verdict.claim.says} **{verdict.words}**" for verdict in each.answers]
    lines += ["", f"From `{each.command}`, sweep {each.sweep}.", ""]
    return "\n".join(lines)
