"""This machine's clock against those of the parts. Leases go by the database's, deadlines by each machine's."""

from __future__ import annotations

from datetime import datetime

from sskai.doctor import Findings

WARN_SECONDS = 5.0
FAIL_SECONDS = 300.0
MEND = "Let a time service (chrony, systemd-timesyncd) set the clock of the machine that is wrong."


def judge(said: Findings, check: str, told: datetime, ours: datetime, *, exact_seconds: float) -> None:
    """`exact_seconds`: within which the other clock was read."""
    apart = abs((told - ours).total_seconds())
    seconds = max(0.0, apart - exact_seconds)
    says = f"{apart:.1f} s apart, read to {exact_seconds:.1f} s"
    if seconds > FAIL_SECONDS:
        said.fail(check, says, MEND)
    elif seconds > WARN_SECONDS:
        said.warn(check, says, MEND)
    else:
        said.ok(check, says)
