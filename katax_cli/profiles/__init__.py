"""Profiles: find, trust, load, merge, validate and mask the configuration."""
