"""Chaos on real processes: the embedded stack under a storm of faults, while jobs come in over HTTP."""
