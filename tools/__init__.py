"""What `make` calls besides the packages' own commands."""
