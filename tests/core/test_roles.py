"""What a change needs, as a table."""

import pytest

from katax_cli.core.roles import Needed, Tier, needed
from katax_cli.core.settings import ROLES, Role

TABLE: dict[tuple[Role, Tier], Needed] = {
    ("dev", Tier.DESTRUCTIVE): "yes",
    ("stage", Tier.DESTRUCTIVE): "yes",
    ("prod", Tier.DESTRUCTIVE): "name",
    ("frozen", Tier.DESTRUCTIVE): "yes",
    ("dev", Tier.DISRUPTIVE): "nothing",
    ("stage", Tier.DISRUPTIVE): "nothing",
    ("prod", Tier.DISRUPTIVE): "yes",
    ("frozen", Tier.DISRUPTIVE): "nothing",
}
"""A frozen profile never gets so far: whatever would change it is refused before anybody is asked."""


@pytest.mark.parametrize(("role", "tier"), TABLE)
def test_what_is_needed(role: Role, tier: Tier) -> None:
    assert needed(role, tier) == TABLE[role, tier]


def test_the_table_is_whole() -> None:
    assert set(TABLE) == {(role, tier) for role in ROLES for tier in Tier}
