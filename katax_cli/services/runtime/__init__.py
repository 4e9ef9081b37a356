"""Profile to databases, and what operators decided as this host knows it. Floor 3."""
