"""What the scheduler is told from outside, beyond the chassis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

import sskai.settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(sskai.settings.Settings):
    cluster: Literal["local", "kubernetes", "ec2"] = "local"
    trainer_image: str = "sskai/trainer:0.1.0"

    # Kubernetes; docs/operations.md says what each asks of the cluster.
    namespace: str = "sskai-jobs"  # where pods run
    service_account: str = "sskai-trainer"
    kueue_queue: str = ""  # admit by this Kueue LocalQueue; empty: not used
    kueue_priority_class: str = ""  # a Kueue WorkloadPriorityClass; empty: the queue's default
    priority_class: str = ""  # a PriorityClass for pods; empty: the namespace's default
    objects_secret: str = ""  # a Secret with the keys of OBJECTS_SECRETS; empty: they stand in the pod as plain values
    models_claim: str = ""  # a PersistentVolumeClaim that keeps models between pods; empty: each pod fetches its own
    work_gib: int = Field(default=15, gt=0)  # a pod's own disk: /tmp
    shm_gib: int = Field(default=2, gt=0)  # /dev/shm where several accelerators or machines work together
    # A node that an autoscaler orders takes a minute or two; what has not come after so long is not to be had.
    unschedulable_seconds: float = Field(default=300, gt=0)
    # So long may the API server be silent (its watches end every 30 s) before what we know is too old to conclude from.
    api_silence_seconds: float = Field(default=60, gt=0)

    # EC2; docs/operations.md has the IAM policies.
    ec2_regions: Annotated[tuple[str, ...], NoDecode] = ()
    ec2_owner: str = Field(default="sskai-scheduler", min_length=1)  # one per installation in an account
    ec2_instance_profile: str = ""
    # An id (ami-...) or a public SSM parameter's name; {architecture} becomes x86_64 or arm64. The default has Docker,
    # NVIDIA's driver and container toolkit, and the AWS CLI.
    ec2_image: str = (
        "/aws/service/deeplearning/ami/{architecture}/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
    )
    ec2_subnets: dict[str, str] = Field(default_factory=dict)  # zone id to subnet id; empty: the default VPC's
    ec2_security_groups: dict[str, list[str]] = Field(default_factory=dict)  # region to ids; empty: the VPC's default
    ec2_root_device: str = "/dev/xvda"  # the image's name for its first disk
    ec2_disk_gib: int = Field(default=100, gt=0)
    ec2_command: str = ""  # what runs instead of a container where SSKAI_TRAINER_IMAGE is empty
    ec2_secrets_prefix: str = "/sskai"  # SSM parameters PREFIX/TENANT/NAME, and PREFIX/SSKAI_OBJECTS_SECRET_KEY
    ec2_endpoint_url: str = ""  # another EC2 than AWS's

    # A pod that the cluster calls running but that told nothing for so long hangs. A healthy one tells something every
    # 2 s, but a broker may be away for a while, and a false recovery costs more than a late one.
    hang_seconds: float = Field(default=1800, gt=0)
    # A pod that never told anything: its image cannot be pulled, or it does not reach the broker.
    start_seconds: float = Field(default=900, gt=0)
    metering_seconds: float = Field(default=5, gt=0)
    # How long an offer that had no machine is left alone.
    denial_seconds: float = Field(default=60, gt=0)
    # A job without a deadline may take so much longer than half as long again as without any waiting, before it goes on
    # demand (spot_policy: auto; `policy.end_seconds`).
    patience_seconds: float = Field(default=600, ge=0)
    # What the spot policy knows of markets before it has seen any; a file of `sskai lab fit`. Unset: the shipped one.
    spot_priors: Path | None = None
    # Limits of what runs at the same time; unset: none. A job that would pass one waits its turn.
    max_running_jobs_per_tenant: int = Field(default=20, gt=0)
    max_machines_per_tenant: int | None = Field(default=None, gt=0)
    max_machines: int | None = Field(default=None, gt=0)  # of all tenants
    # A waiting job rises one priority class per so many seconds, so that nobody waits for ever behind higher ones.
    priority_ageing_seconds: float = Field(default=7200, gt=0)
    # tenant -> weight of its fair share of the machines, as JSON: {"tenant_acme": 2}; 1 where it is not named.
    tenant_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    # What a tenant may spend in a calendar month (UTC), jobs that run included as far as they are expected to cost.
    tenant_budget_usd_per_month: float | None = Field(default=None, gt=0)

    @field_validator("ec2_regions", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def missing_for_ec2(self) -> list[str]:
        """What SSKAI_CLUSTER=ec2 cannot do without, in sentences; empty: nothing."""
        missing = []
        if not self.ec2_regions:
            missing.append("SSKAI_EC2_REGIONS names the regions to launch in, with commas")
        if not self.ec2_instance_profile:
            missing.append("SSKAI_EC2_INSTANCE_PROFILE is the instance profile by which a machine reads its secrets")
        if not self.trainer_image and not self.ec2_command:
            missing.append("SSKAI_TRAINER_IMAGE (or SSKAI_EC2_COMMAND, with an empty image) is what a machine runs")
        brokers = [one.rpartition(":")[0].strip("[]") for one in self.kafka_bootstrap.split(",")]
        if any(host in LOOPBACK for host in brokers):
            missing.append("SSKAI_KAFKA_BOOTSTRAP must be an address that EC2 reaches, not this computer's loopback")
        if (urlsplit(self.objects_url).hostname or "") in LOOPBACK:
            missing.append("SSKAI_OBJECTS_URL must be an address that EC2 reaches, not this computer's loopback")
        return missing
