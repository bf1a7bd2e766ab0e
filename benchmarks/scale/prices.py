"""What AWS asks in us-east-1, on demand, in USD. EC2's from the optimizer's catalogue, the others are assumptions."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import services.optimizer

HOURS_A_MONTH = 730
REGION = "us-east-1"
NODE, NODE_VCPUS = "m7i.xlarge", 4  # deploy/terraform's system nodes

# Assumed on 2026-11-30: list prices that were not looked up at AWS that day. Per hour, one zone; two are twice.
RDS_USD_PER_VCPU_HOUR = 0.084  # db.m7g, PostgreSQL: the price is linear in vCPUs
RDS_VCPUS = (2, 4, 8, 16, 32, 48, 64)  # db.m7g.large to .16xlarge
MSK_USD_PER_VCPU_HOUR = 0.102  # kafka.m7g
MSK_VCPUS = (2, 4, 8, 16, 32, 48, 64)
MSK_USD_PER_GIB_MONTH = 0.10
S3_USD_PER_GIB_MONTH = 0.023
EKS_USD_PER_HOUR = 0.10
# usage.ai on RDS, June 2026: gp3, one zone; 3,000 IOPS are included, 12,000 from 400 GiB on.
RDS_USD_PER_GIB_MONTH = 0.115
RDS_USD_PER_IOPS_MONTH = 0.02


@cache
def node_usd_per_hour() -> float:
    """Raises LookupError if the catalogue no longer has the node's type."""
    path = Path(services.optimizer.__file__).parent / "data" / "aws_catalog.csv"
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["instance_type"] == NODE and row["region"] == REGION:
                return float(row["price_usd_hour"])
    raise LookupError(f"{path} has no {NODE} in {REGION}: name another NODE")
