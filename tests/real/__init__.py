"""The real parts that production has, run and tested here: `make test-real`."""
