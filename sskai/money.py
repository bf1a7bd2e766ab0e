"""Money is whole nano-USD (1e-9 USD) in rows and events, so that sums are exact; people see USD."""

NANO_PER_USD = 1_000_000_000
