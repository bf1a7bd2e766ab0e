"""A server that speaks SQS's and EventBridge's protocols, and a queue of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from tests.monitor.mailbox import Mailbox

REGION = "us-east-2"


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """Options of a client of the server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "endpoint_url": f"http://{host}:{port}",
        "region_name": REGION,
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    server.stop()


@pytest.fixture
def mailbox(aws: dict[str, str]) -> Mailbox:
    return Mailbox(aws)
