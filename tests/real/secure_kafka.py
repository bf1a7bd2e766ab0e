"""Apache Kafka as managed ones are: TLS by an authority of its own, accounts by SCRAM, and rights by ACLs."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sskai.broker import Broker
from sskai.local import kafka
from sskai.local.processes import Child, Server, free_ports

ACCOUNTS = {"services": "services-secret", "trainer-pods": "trainer-secret"}
SETTINGS = """\
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},CLIENTS://127.0.0.1:{secure_port}
advertised.listeners=BROKER://127.0.0.1:{port},CLIENTS://127.0.0.1:{secure_port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:SASL_SSL
listener.name.clients.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.clients.ssl.keystore.type=PEM
listener.name.clients.ssl.keystore.certificate.chain={certificate}
listener.name.clients.ssl.keystore.key={key}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:services
"""


@dataclass(frozen=True)
class SecureKafka:
    bootstrap: str  # for clients with an account
    inside: str  # the broker's own door, where ACLs are written
    ca_pem: str

    def broker(self, account: str, **different: str) -> Broker:
        told = {"username": account, "password": ACCOUNTS[account], "ca_pem": self.ca_pem} | different
        return Broker(self.bootstrap, "SASL_SSL", "SCRAM-SHA-512", **told)

    def let_write(self, account: str, topic: str) -> None:
        """As the guide says for pods of jobs."""
        about = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{account}", "*")
        binding = AclBinding(*about, AclOperation.WRITE, AclPermissionType.ALLOW)
        admin = AdminClient({"bootstrap.servers": self.inside})
        for done in admin.create_acls([binding]).values():
            done.result(timeout=20)


@contextmanager
def running(folder: Path) -> Iterator[SecureKafka]:
    """A broker in the folder. Raises StartError."""
    started = time.monotonic()
    port, controller_port, secure_port = free_ports(3)
    ca_pem, certificate, key = authority()
    more = SETTINGS.format(
        port=port,
        controller_port=controller_port,
        secure_port=secure_port,
        certificate=certificate.replace("\n", "\\n"),
        key=key.replace("\n", "\\n"),
    )
    accounts = [f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in ACCOUNTS.items()]
    program = kafka.program(folder, port, controller_port, folder / "kafka.log", more_settings=more, accounts=accounts)
    with Server(Child.spawn(program), folder, folder_is_ours=False, started=started):
        yield SecureKafka(f"127.0.0.1:{secure_port}", f"127.0.0.1:{port}", ca_pem)


def authority() -> tuple[str, str, str]:
    """PEM of an authority, of a certificate that it signed for 127.0.0.1, and of that one's key."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SSKAI test authority")])
    now = datetime.now(UTC)

    def unsigned(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    ca = (
        unsigned(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka")])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        unsigned(server, key.public_key()).add_extension(addresses, critical=False).sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ca.public_bytes(pem).decode(), certificate.public_bytes(pem).decode(), private.decode()
