"""The part `budget` of a configuration: what a sweep may take before it stops in order."""

from __future__ import annotations

from pydantic import Field

from luceloop.core.fields import Finite, Strict


class BudgetConfig(Strict):
    """What a sweep may take before it stops in order, for `luceloop resume` to go on with."""

    hours: Finite | None = Field(None, gt=0)
    """Hours of wall-clock time of a run; a run that resumes it has as many again."""
    samples: Finite | None = Field(None, gt=0)
    """Samples that the sweep generates, over all its runs."""
    comparisons: Finite | None = Field(None, gt=0)
    """Comparisons by pickers over all runs of the sweep: choices times K-1."""
    device_hours: Finite | None = Field(None, gt=0)
    """Hours of training, generating, scoring and choosing over all runs, added up over trials."""
