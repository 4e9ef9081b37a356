"""Figures and verdicts: histograms, health, OpenMetrics text, recommendations. Imports `snapshot`."""
