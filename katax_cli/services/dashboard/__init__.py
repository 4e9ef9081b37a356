"""Sources of one Snapshot: probes, the state database, jobs, events. Floor 8."""
