"""What SSKAI promises when things go wrong, and whether it keeps it."""
