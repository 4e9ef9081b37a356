"""Backups: made by the engines' own tools, proven whole before they get their name, verified, pruned. Floor 6."""
