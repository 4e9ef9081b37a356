"""The rows of runs: claims, leases, accounting."""
