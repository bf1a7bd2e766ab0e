"""Where the broker is and how one comes in: an address, and where it asks for them an account and TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from sskai.settings import Settings


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is (host:port, several with commas), and what it asks of those who come."""

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_pem: str = ""  # whom to trust instead of the system's authorities

    @classmethod
    def from_settings(cls, settings: Settings) -> Broker:
        return cls(
            settings.kafka_bootstrap,
            settings.kafka_security_protocol,
            settings.kafka_sasl_mechanism,
            settings.kafka_username,
            settings.kafka_password.get_secret_value(),
            settings.kafka_ca_pem,
        )

    def options(self) -> dict[str, Any]:
        """As aiokafka's clients take them. ValueError names the setting that is missing or wrong."""
        found: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.security_protocol}
        if self.security_protocol.endswith("SSL"):
            try:
                found["ssl_context"] = ssl.create_default_context(cadata=self.ca_pem or None)
            except (ssl.SSLError, ValueError) as error:
                raise ValueError(f"SSKAI_KAFKA_CA_PEM must hold certificates in PEM: {error}") from error
        if self.security_protocol.startswith("SASL"):
            if not self.username or not self.password:
                raise ValueError(
                    f"SSKAI_KAFKA_SECURITY_PROTOCOL={self.security_protocol} needs SSKAI_KAFKA_USERNAME and "
                    "SSKAI_KAFKA_PASSWORD"
                )
            found |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return found


def options_of(broker: Broker | str) -> dict[str, Any]:
    """As aiokafka's clients take them. An address alone is a broker that asks for nothing."""
    return (Broker(broker) if isinstance(broker, str) else broker).options()
