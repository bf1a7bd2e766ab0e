"""What a service is told of the cluster that its pods run on, beyond the chassis; one base for all that keep pods."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

import sskai.settings
from sskai.cluster import Program

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(sskai.settings.Settings):
    """A service says which program its pods run, and from which image."""

    program: ClassVar[Program]

    cluster: Literal["local", "kubernetes", "ec2"] = "local"

    # Kubernetes; docs/operations.md says what each asks of the cluster.
    namespace: str = "sskai-jobs"  # where pods run
    service_account: str = "sskai-trainer"
    kueue_queue: str = ""  # admit by this Kueue LocalQueue; empty: not used
    kueue_priority_class: str = ""  # a Kueue WorkloadPriorityClass; empty: the queue's default
    priority_class: str = ""  # a PriorityClass for pods; empty: the namespace's default
    objects_secret: str = ""  # a Secret with the keys of OBJECTS_SECRETS; empty: they stand in the pod as plain values
    kafka_secret: str = ""  # a Secret with the keys of BROKER_SECRETS; empty: this service's own account, in plain
    kafka_ca_secret: str = ""  # a Secret with the key BROKER_CA; empty: it stands in the pod
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
    ec2_command: str = ""  # what runs instead of a container where the image is empty
    ec2_secrets_prefix: str = "/sskai"  # SSM parameters PREFIX/TENANT/NAME, and PREFIX/SSKAI_OBJECTS_SECRET_KEY
    ec2_endpoint_url: str = ""  # another EC2 than AWS's

    @property
    def image(self) -> str:
        """Of a pod's container; empty on EC2: `ec2_command` runs instead of one."""
        raise NotImplementedError

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
        if not self.image and not self.ec2_command:
            variable = f"{self.program.variables}_IMAGE"
            missing.append(f"{variable} (or SSKAI_EC2_COMMAND, with an empty image) is what a machine runs")
        brokers = [one.rpartition(":")[0].strip("[]") for one in self.kafka_bootstrap.split(",")]
        if any(host in LOOPBACK for host in brokers):
            missing.append("SSKAI_KAFKA_BOOTSTRAP must be an address that EC2 reaches, not this computer's loopback")
        if (urlsplit(self.objects_url).hostname or "") in LOOPBACK:
            missing.append("SSKAI_OBJECTS_URL must be an address that EC2 reaches, not this computer's loopback")
        return missing
