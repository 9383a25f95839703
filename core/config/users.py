"""The part `curation.users` of a configuration: kinds of users who do not like the same.

    curation:
      users:
        - {weight: 0.7, beta: 10, reward: {name: mode_distance, mode: 0}}
        - {beta: 10, reward: {name: mode_distance, mode: 4}}   # what is left: 0.3

Every choice is made by one user, drawn by the weights. A user who errs sometimes prefers the
opposite: a further picker, with -β, who makes a part of that user's choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from luceloop.core.errors import ConfigError
from luceloop.core.fields import Finite, Strict
from luceloop.core.rewards.base import RewardConfig
from luceloop.core.rewards.kinds import REWARDS

MOST_USERS = 64
"""The most users of a configuration; each has metrics of its own."""


def _is_number(beta: float) -> float:
    if math.isnan(beta):
        raise ValueError("must be a number from -inf to inf")
    return beta


Beta = Annotated[float, AfterValidator(_is_number)]
"""A reward multiplicative factor of any sign; no NaN."""
Flip = Annotated[Finite, Field(ge=0, le=1)]
"""A share of choices."""


class UserConfig(Strict):
    """A kind of users, who make a share of the choices."""

    weight: Finite | None = Field(None, ge=0)
    """Share of the choices, by the weights of all users; what others leave of 1 if not given."""
    beta: Beta | None = None
    """Reward multiplicative factor of any sign; curation.beta if not given."""
    flip: Flip | None = None
    """Share of this user's choices that err; curation.flip if not given."""
    reward: Annotated[RewardConfig, REWARDS] | None = None
    """What this user likes; the point's reward if not given."""


def _as_list(given: Any) -> Any:
    """A mapping of numbers to users, which dotted keys make, as a list."""
    if not isinstance(given, Mapping):
        return given
    by_number = {str(key): user for key, user in given.items()}
    numbers = [str(number) for number in range(len(given))]
    if set(numbers) != by_number.keys():
        raise ValueError("must be a list, or a mapping with keys 0, 1, 2, ...")
    return [by_number[number] for number in numbers]


Users = Annotated[
    tuple[UserConfig, ...],
    Field(min_length=1, max_length=MOST_USERS),
    BeforeValidator(_as_list),
]
"""The users of a configuration."""


@dataclass(frozen=True)
class User:
    """A kind of users, with all that its configuration leaves to the point's."""

    share: float
    """Of the choices, from 0 to 1."""
    beta: float
    """β, from -∞ to ∞."""
    flip: float
    """Share of this user's choices that are made with -β."""
    reward: RewardConfig


@dataclass(frozen=True)
class Picker:
    """Who makes a choice: a user, or that user in error."""

    user: int
    """Number of the user."""
    share: float
    """Of the choices, from 0 to 1."""
    beta: float
    """β, from -∞ to ∞."""
    reward: int
    """Number of the reward among those that differ."""
    errs: bool = False
    """Whether it is the user in error, who has the opposite β."""


def users_of(
    users: Sequence[UserConfig] | None, reward: RewardConfig, beta: float, flip: float
) -> tuple[User, ...]:
    """The users of a point, their weights as shares; without any, the one it has otherwise."""
    if users is None:
        return (User(1.0, beta, flip, reward),)
    shares = shares_of([user.weight for user in users])
    return tuple(
        User(
            share,
            beta if user.beta is None else user.beta,
            flip if user.flip is None else user.flip,
            reward if user.reward is None else user.reward,
        )
        for user, share in zip(users, shares, strict=True)
    )


def shares_of(weights: Sequence[float | None]) -> list[float]:
    """Shares that sum to 1, of weights; users without one share what the others leave of 1.

    Raises:
        ConfigError: if that is nothing, or all weights are 0.
    """
    total = math.fsum(weight for weight in weights if weight is not None)
    without = sum(weight is None for weight in weights)
    if without and total > 1:
        number = next(i for i, weight in enumerate(weights) if weight is not None)
        allowed = "with users without a weight, who get the rest, weights sum to at most 1"
        raise ConfigError(f"users.{number}.weight", weights[number], allowed)
    if not without and total == 0:
        raise ConfigError("users.0.weight", weights[0], "some user must have a weight above 0")
    whole = 1.0 if without else total
    rest = (1 - total) / max(without, 1)
    return [rest if weight is None else weight / whole for weight in weights]


def rewards_of(users: Sequence[User]) -> list[RewardConfig]:
    """The rewards that differ, in the order of the users: each is computed once."""
    found: list[RewardConfig] = []
    for user in users:
        if user.reward not in found:
            found.append(user.reward)
    return found


def pickers_of(users: Sequence[User]) -> tuple[Picker, ...]:
    """Who makes choices: every user, followed by that user in error where there is such."""
    rewards, found = rewards_of(users), []
    for number, user in enumerate(users):
        column = rewards.index(user.reward)
        found.append(Picker(number, user.share * (1 - user.flip), user.beta, column))
        if user.flip:
            wrong = Picker(number, user.share * user.flip, -user.beta, column, errs=True)
            found.append(wrong)
    return tuple(found)
