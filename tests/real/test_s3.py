"""Another S3 server keeps the contract that the embedded one keeps: Versity's gateway, over a folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import boto3
import pytest

from sskai.local.processes import free_ports
from sskai.objects import Objects
from tests.chassis.objects_contract import MultipartContract, ObjectsContract
from tests.real.programs import built, serving

pytestmark = pytest.mark.real

BUCKET = "sskai"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Objects]:
    program, folder = built("s3", "versitygw"), tmp_path_factory.mktemp("versitygw")
    data = folder / "data"
    data.mkdir()
    [port] = free_ports(1)
    url, access, secret = f"http://127.0.0.1:{port}", secrets.token_hex(10), secrets.token_urlsafe(30)
    # Not in extended attributes, which a temporary folder's file system may not have.
    sidecar = folder / "metadata"
    sidecar.mkdir()
    command = [str(program), "--port", f"127.0.0.1:{port}", "--quiet", "posix", "--sidecar", str(sidecar), str(data)]
    keys = {"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret}
    with serving(command, folder, lambda: _answers(url, access, secret), keys):
        yield Objects(url, BUCKET, access, secret)


def _answers(url: str, access: str, secret: str) -> bool:
    """Whether it does, with the bucket made."""
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=access, aws_secret_access_key=secret, region_name="us-east-1"
    )
    try:
        client.create_bucket(Bucket=BUCKET)
    except client.exceptions.BucketAlreadyOwnedByYou:
        return True
    except Exception as error:
        raise OSError(str(error)) from error
    return True


class TestObjectsOnVersity(ObjectsContract):
    """`objects` is this module's server."""


class TestMultipartOnVersity(MultipartContract):
    """Likewise."""
