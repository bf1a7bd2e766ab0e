# Made by `python -m tools.sync_client` of ../_async: edit that.
"""The client where nothing else runs meanwhile."""
