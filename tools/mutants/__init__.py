"""Seeded bugs in the safety code (tests/mutants/*.patch), each of which a test must catch: the proof that tests of
reliability are real. `python -m tools.mutants` runs them."""
