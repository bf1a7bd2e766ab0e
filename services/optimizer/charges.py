"""What a job is billed for beside machine time: disks, checkpoints in S3, traffic between regions. Pure.

List prices of us-east-1, which other regions differ from by a few per cent: EBS gp3 0.08 USD per GB-month, S3 Standard
0.023 USD per GB-month, traffic from one region to another 0.02 USD per GB; S3 to EC2 within a region is free
(aws.amazon.com: EBS pricing, S3 pricing; read in 2026).
"""

from __future__ import annotations

from dataclasses import dataclass

HOURS_PER_MONTH = 730.0
GB = 1e9
DISK_USD_PER_GB_MONTH = 0.08
OBJECTS_USD_PER_GB_MONTH = 0.023
REGIONS_USD_PER_GB = 0.02
# The system, the image with torch and CUDA, logs and scratch space.
DISK_BASE_BYTES = 40 * GB


@dataclass(frozen=True, slots=True)
class Baggage:
    """Bytes that a job carries, whatever the machine."""

    model_bytes: float
    dataset_bytes: float
    state_bytes: float  # of one checkpoint
    checkpoints_kept: int

    @property
    def disk_bytes(self) -> float:
        """On each machine: the model as fetched, the data, one checkpoint as fetched and one being written."""
        return DISK_BASE_BYTES + self.model_bytes + self.dataset_bytes + 2 * self.state_bytes

    @property
    def fetched_bytes(self) -> float:
        return self.model_bytes + self.dataset_bytes + self.state_bytes


def storage_usd(baggage: Baggage, machine_hours: float, hours: float) -> float:
    """Disks for as long as machines run, checkpoints for as long as the job does."""
    disks = baggage.disk_bytes / GB * DISK_USD_PER_GB_MONTH * machine_hours
    objects = baggage.checkpoints_kept * baggage.state_bytes / GB * OBJECTS_USD_PER_GB_MONTH * hours
    return (disks + objects) / HOURS_PER_MONTH


def egress_usd(baggage: Baggage, region: str, objects_region: str, *, launches: float, saves: float) -> float:
    """Traffic between the objects' region and the machines'; none where they are one, or where nobody said."""
    if not objects_region or region == objects_region:
        return 0.0
    moved = launches * baggage.fetched_bytes + saves * baggage.state_bytes
    return moved / GB * REGIONS_USD_PER_GB
