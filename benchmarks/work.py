"""The work that both loops do, and the curves that both return."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """The paper's mixture of eight Gaussians, λ=∞, K=2 (Ferbach et al. 2024, section 4)."""

    size: int = 5000
    """Real samples, and kept samples of each iteration."""
    pool: int = 10_000
    """Samples generated at each iteration, twice `size`."""
    iterations: int = 8
    """Retrainings T, each from the last model's weights."""
    steps: int = 1000
    """Optimizer steps of a retraining."""
    initial_steps: int = 2000
    """Optimizer steps of p_0."""
    batch_size: int = 256
    width: int = 64
    radius: float = 5.0
    """Distance of the modes from the origin; the rewarded one is at (radius, 0)."""
    std: float = 0.1**0.25
    """Standard deviation of each coordinate within a mode."""
    beta: float = 10.0
    r_min: float = 1.0
    """Radius around the rewarded mode within which the reward is 0, its maximum."""


QUICK = Work(size=1000, pool=2000, iterations=2, steps=100, initial_steps=200)


@dataclass(frozen=True)
class Curves:
    """Per seed, a value for each iteration 0 to T."""

    reward_mean: list[list[float]]
    exp_reward_mean: list[list[float]]
    """Mean of e^{βr}, whose maximum is 1."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds a run by stage, where the loop measures them."""

    def at(self, metric: str, iteration: int) -> list[float]:
        """The seeds' values at one iteration."""
        return [curve[iteration] for curve in getattr(self, metric)]
