"""The object store's promises on the embedded S3 server."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from sskai.objects import NotFoundError, Objects, ObjectsUnavailableError
from tests.chassis.objects_contract import MultipartContract, ObjectsContract


class TestObjectsOnSeaweedFS(ObjectsContract):
    """`objects` is the session's server."""


class TestMultipartOnSeaweedFS(MultipartContract):
    """Likewise."""


def test_a_server_that_is_away_is_unavailable_not_missing() -> None:
    away = Objects("http://127.0.0.1:1", "sskai", "a", "b")
    with pytest.raises(ObjectsUnavailableError):
        away.get_bytes("key")


def test_a_missing_key_is_missing_also_to_who_may_not_list_everything() -> None:
    objects = Objects("http://127.0.0.1:1", "bucket", "key", "secret")
    listed = {"Bucket": "bucket", "Prefix": "a/fence"}
    with Stubber(objects.s3) as s3:
        s3.add_client_error("get_object", "AccessDenied", http_status_code=403)
        longer = {"Key": "a/fence.over", "Size": 1, "ETag": "e"}
        s3.add_response("list_objects_v2", {"Contents": [longer]}, listed)
        with pytest.raises(NotFoundError):
            objects.get_bytes("a/fence")
        s3.add_client_error("get_object", "AccessDenied", http_status_code=403)
        s3.add_response("list_objects_v2", {"Contents": [{"Key": "a/fence", "Size": 1, "ETag": "e"}]}, listed)
        with pytest.raises(ClientError, match="AccessDenied"):
            objects.get_bytes("a/fence")
