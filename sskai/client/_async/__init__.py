"""The client where everything else may run meanwhile; `_sync` is made of these files."""
