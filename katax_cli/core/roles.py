"""The confirmation that a change needs, as a function of the profile's role."""

from __future__ import annotations

from enum import Enum, auto
from typing import Literal

from katax_cli.core.settings import Role


class Tier(Enum):
    """The harm that a change can do."""

    DESTRUCTIVE = auto()
    """Data is lost that was not named item by item."""
    DISRUPTIVE = auto()
    """Work of others is interrupted."""


YES_CONFIRMS = "KATAX_YES_CONFIRMS"
"""The variable that is set for `katax` jobs of a trusted file: their `--yes` counts as `--confirm`."""

Needed = Literal["nothing", "yes", "name"]


def needed(role: Role, tier: Tier) -> Needed:
    """`yes`: a y/N answer or --yes; `name`: PROFILE/CONNECTION typed or passed with --confirm."""
    if tier is Tier.DISRUPTIVE:
        return "yes" if role == "prod" else "nothing"
    return "name" if role == "prod" else "yes"
