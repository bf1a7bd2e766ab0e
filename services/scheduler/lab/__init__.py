"""The policy lab: the scheduler's own policy on recorded or made-up spot markets. `sskai lab`, or
`python -m services.scheduler.lab`."""
