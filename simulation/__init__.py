"""Deterministic simulation: the services' real handlers, loops and stores in one process, driven by one seed.

`python -m simulation --seed 7` (or `sskai lab simulate --seed 7`) replays one; docs/guides/simulation.md says what is
real, what is simulated, and what it cannot find. Nothing imports this package; it imports everything.
"""
