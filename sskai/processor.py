"""What this machine's processor is, for those who compute on it."""

from __future__ import annotations

from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def made_by_intel() -> bool:
    """Whether its maker is that of MKL, by which torch multiplies; also where nobody can tell."""
    try:
        told = CPU_INFO.read_text()
    except OSError:
        return True
    return "vendor_id" not in told or "GenuineIntel" in told
