"""Seeds for other programs: `Seeder(db, directory="seeds")`."""

from __future__ import annotations

from katax_cli.services.seeds.seeder import Seeder
from katax_cli.services.seeds.values import Counts, SeedOutcome, SeedStanding

__all__ = ["Counts", "SeedOutcome", "SeedStanding", "Seeder"]
