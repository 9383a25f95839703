"""Which figures of the paper there are, and the sweeps and drawings that stand for them.

Ferbach et al., "Self-Consuming Generative Models with Curated Data Provably Optimize Human
Preferences", NeurIPS 2024 (arXiv 2407.09499). Figure 1 is an illustration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luceloop.core.errors import ConfigError

MOG, MOONS = "mog", "moons"
AIRPLANE, CONFIDENCE = "cifar10-airplane", "cifar10-confidence"


@dataclass(frozen=True)
class Panel:
    """One drawing of a figure."""

    figure: str
    """A name that `luceloop plot --figure` takes, or `density`."""
    metric: str | None = None
    band: str = "ci"


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper."""

    number: int
    shows: str
    """What is to be seen in it."""
    preset: str
    """The sweep that stands for it."""
    panels: Sequence[Panel]
    overrides: Sequence[str] = ()
    """In what its sweep differs from the preset."""
    point: Mapping[str, Any] = field(default_factory=dict)
    """Values of searched keys of the points that are drawn; all if there are none."""
    is_quick: bool = False
    """Whether a laptop draws it in minutes."""

    @property
    def name(self) -> str:
        """What `luceloop reproduce` calls it."""
        return f"figure-{self.number}"

    @property
    def title(self) -> str:
        """What the paper and the claims of presets call it."""
        return f"Figure {self.number}"


REWARD, SHARES, SAMPLES = Panel("curve", "reward_mean"), Panel("class_shares"), Panel("samples")
QUALITY = (
    Panel("curve", "frechet_distance"),
    Panel("curve", "precision"),
    Panel("curve", "recall"),
)
FIGURES = (
    PaperFigure(
        2,
        "CIFAR-10 with pickers who like airplanes: the mean reward and the shares of the classes.",
        AIRPLANE,
        (REWARD, SHARES),
    ),
    PaperFigure(
        3,
        "CIFAR-10 with pickers who like what a classifier is sure of: the mean reward and the "
        "shares of the classes.",
        CONFIDENCE,
        (REWARD, SHARES),
    ),
    PaperFigure(
        4,
        "Eight Gaussians retrained on what was picked alone (λ=∞): samples over t, and the reward.",
        MOG,
        (SAMPLES, REWARD),
        point={"lam": float("inf")},
        is_quick=True,
    ),
    PaperFigure(
        5,
        "Eight Gaussians retrained on what was picked and as many real samples (λ=1): samples over "
        "t, and the reward.",
        MOG,
        (SAMPLES, REWARD),
        point={"lam": 1.0},
        is_quick=True,
    ),
    PaperFigure(
        6,
        "Eight Gaussians with real data (λ=1): the density p_t/p_ref that the loop settles at, "
        "which depends on x through its reward alone.",
        MOG,
        (Panel("density"),),
        point={"lam": 1.0},
        is_quick=True,
    ),
    PaperFigure(
        7,
        "Two moons with and without real data: samples over t, and the reward.",
        MOONS,
        (SAMPLES, REWARD),
        is_quick=True,
    ),
    PaperFigure(
        8,
        "CIFAR-10 with pickers who like what a classifier is sure of: Fréchet distance, precision "
        "and recall.",
        CONFIDENCE,
        QUALITY,
    ),
    PaperFigure(
        9,
        "CIFAR-10 with pickers who like airplanes, with real data (λ=1/2): the mean reward and the "
        "shares of the classes.",
        AIRPLANE,
        (REWARD, SHARES),
        point={"lam": 0.5},
    ),
    PaperFigure(
        10,
        "As Figure 8, over twenty retrainings.",
        CONFIDENCE,
        (REWARD, *QUALITY),
        overrides=("iterations=20",),
    ),
    PaperFigure(
        11,
        "CIFAR-10 with pickers who like what a classifier is sure of, three runs: every seed as a "
        "thin line beside the band.",
        CONFIDENCE,
        (Panel("curve", "reward_mean", band="seeds"), Panel("curve", "recall", band="seeds")),
    ),
)
"""By number."""


def find_figure(name: str) -> PaperFigure:
    """The figure of this name.

    Raises:
        ConfigError: if there is none.
    """
    for figure in FIGURES:
        if name in (figure.name, str(figure.number)):
            return figure
    raise ConfigError("NAME", name, f"must be one of {', '.join(each.name for each in FIGURES)}")
