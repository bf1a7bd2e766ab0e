"""What is chosen once for a home folder: ports and secrets, and the environment that follows from them.

Both outlive a `down`: the database keeps its password, and a part comes back where it was, as long as its port is free.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import sskai
from sskai.local import objectstore, postgres
from sskai.local.paths import cache_folder
from sskai.local.processes import free_ports, port_is_free
from sskai.local.state import write_privately

SERVICES = ("gateway", "optimizer", "scheduler", "trainer", "inference", "monitor")
OBJECT_STORE_PORTS = tuple(f"objects_{field.name}" for field in fields(objectstore.Ports))
PORTS = ("kafka", "kafka_controller", "postgres", *OBJECT_STORE_PORTS, "cloud", *SERVICES)
# The folder that holds `sskai/` and `services/`: children start there, so that `python -m services...` finds them.
SOURCE_FOLDER = Path(sskai.__file__).parents[1]
CATALOGUE = SOURCE_FOLDER / "services" / "optimizer" / "data" / "aws_catalog.csv"
# What is offered is this computer, in the part of types with two processors; its pods start as fast as processes do.
THIS_COMPUTER = {
    "SSKAI_OFFERED_INSTANCE_TYPES": "local.*",
    "SSKAI_LOCAL_MACHINE_TYPES": "m5.large,m7i.large",
    "SSKAI_MACHINE_START_SECONDS": "10",
}
# A part whose address is set from outside is used where it is, and not started.
EXTERNAL = {"kafka": "SSKAI_KAFKA_BOOTSTRAP", "postgres": "SSKAI_DATABASE_URL", "objects": "SSKAI_OBJECTS_URL"}


@dataclass(frozen=True, slots=True)
class Secrets:
    """Drawn at random when the home folder is new."""

    postgres_password: str
    objects_access_key: str
    objects_secret_key: str
    cloud_token: str
    internal_token: str
    admin_key: str

    @classmethod
    def draw(cls) -> Secrets:
        """New secrets."""
        store = objectstore.Credentials.draw()
        return cls(
            postgres_password=secrets.token_urlsafe(24),
            objects_access_key=store.access_key,
            objects_secret_key=store.secret_key,
            cloud_token=secrets.token_urlsafe(24),
            internal_token=secrets.token_urlsafe(24),
            admin_key=f"sskai_{secrets.token_urlsafe(32)}",
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Ports by name, and the secrets, of one home folder."""

    home: Path
    ports: Mapping[str, int]
    secrets: Secrets

    @classmethod
    def of(cls, home: Path) -> Layout:
        """The folder's layout, made when it is new; ports that somebody else took meanwhile are chosen again."""
        known = cls.read(home) if _file(home).exists() else cls(home, {}, Secrets.draw())
        ports = {name: port for name, port in known.ports.items() if name in PORTS and port_is_free(port)}
        missing = [name for name in PORTS if name not in ports]
        ports |= zip(missing, free_ports(len(missing), taken=set(ports.values())), strict=True)
        write_privately(_file(home), json.dumps({"ports": ports, "secrets": asdict(known.secrets)}))
        return cls(home, ports, known.secrets)

    @classmethod
    def read(cls, home: Path) -> Layout:
        """The folder's layout as it was chosen. Raises FileNotFoundError when it never was."""
        known = json.loads(_file(home).read_text())
        return cls(home, known["ports"], Secrets(**known["secrets"]))

    def url(self, part: str) -> str:
        """The HTTP address of a part that has one."""
        return f"http://127.0.0.1:{self.ports[part]}"

    def objectstore_ports(self) -> objectstore.Ports:
        """The object store's ports."""
        return objectstore.Ports(*(self.ports[name] for name in OBJECT_STORE_PORTS))

    def objectstore_credentials(self) -> objectstore.Credentials:
        """The object store's identity."""
        return objectstore.Credentials(self.secrets.objects_access_key, self.secrets.objects_secret_key)

    def environment(self) -> dict[str, str]:
        """`SSKAI_*` for every service; what the caller's environment says of external parts wins."""
        ours = {
            "SSKAI_KAFKA_BOOTSTRAP": f"127.0.0.1:{self.ports['kafka']}",
            "SSKAI_DATABASE_URL": postgres.url(self.ports["postgres"], self.secrets.postgres_password),
            "SSKAI_OBJECTS_URL": self.url("objects_s3"),
            "SSKAI_OBJECTS_BUCKET": objectstore.BUCKET,
            "SSKAI_OBJECTS_ACCESS_KEY": self.secrets.objects_access_key,
            "SSKAI_OBJECTS_SECRET_KEY": self.secrets.objects_secret_key,
        }
        return {
            **{name: os.environ.get(name, value) for name, value in ours.items()},
            "SSKAI_HOST": "127.0.0.1",
            "SSKAI_INSTANCE": "0",
            "SSKAI_GATEWAY_URL": self.url("gateway"),
            "SSKAI_INFERENCE_URL": self.url("inference"),
            "SSKAI_SCHEDULER_URL": self.url("scheduler"),
            "SSKAI_OTLP_URL": self.url("monitor"),
            "SSKAI_CLOUD_URL": self.url("cloud"),
            "SSKAI_CLOUD_TOKEN": self.secrets.cloud_token,
            "SSKAI_CLUSTER": "local",
            **{name: os.environ.get(name, value) for name, value in THIS_COMPUTER.items()},
            "SSKAI_INTERNAL_TOKEN": self.secrets.internal_token,
            "SSKAI_ADMIN_KEY": self.secrets.admin_key,
            "SSKAI_HOME": str(self.home),
            "SSKAI_CACHE": str(cache_folder()),
            "SSKAI_MODELS_DIR": str(cache_folder() / "models"),
        }


def _file(home: Path) -> Path:
    return home / "layout.json"


def external_parts() -> set[str]:
    """The parts that run elsewhere, because the environment names their address."""
    return {part for part, variable in EXTERNAL.items() if os.environ.get(variable)}
