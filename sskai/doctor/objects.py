"""The object store: what the services do to it is done once with a small object, which is deleted again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
from botocore.exceptions import ClientError

from sskai.contract import new_id
from sskai.doctor import Finding, Findings, clock
from sskai.doctor.settings import Settings
from sskai.multipart import Multipart
from sskai.objects import AlreadyExistsError, NotFoundError, Objects, ObjectsUnavailableError

PREFIX = "doctor/"
BODY = b"sskai doctor"
HTTP_SECONDS = 10
HTTP_DATE_SECONDS = 1.0  # its resolution
RIGHTS = (
    "Allow this key s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket and the multipart actions on the bucket."
)


async def look(settings: Settings, now: Callable[[], datetime]) -> list[Finding]:
    return await asyncio.to_thread(_look, settings, now)


def _look(settings: Settings, now: Callable[[], datetime]) -> list[Finding]:
    said = Findings("objects")
    objects = Objects.from_settings(settings)
    if not _bucket(said, objects, settings, now):
        return said.found
    key = f"{PREFIX}{new_id('probe')}"
    try:
        objects.put_bytes(key, BODY)
        if objects.get_bytes(key) != BODY:
            said.fail("write and read", "what is read is not what was written", "Look at the object store itself.")
            return said.found
        said.ok("write and read", f"a probe below {PREFIX}")
        _condition(said, objects, key)
        _multipart(said, objects, f"{key}-parts")
        _signed(said, objects, key)
        _public(said, objects, key)
        objects.delete(key)
        _deleted(said, objects, key)
    except ClientError as error:
        said.fail("write and read", str(error), RIGHTS)
    except (ObjectsUnavailableError, NotFoundError, httpx2.HTTPError) as error:
        said.fail("write and read", repr(error), "Look at the object store's own log and disk.")
    return said.found


def _bucket(said: Findings, objects: Objects, settings: Settings, now: Callable[[], datetime]) -> bool:
    started, where = time.monotonic(), objects.s3.meta.endpoint_url
    try:
        answer = objects.s3.head_bucket(Bucket=objects.bucket)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        mend = f"Create the bucket {objects.bucket}, or set SSKAI_OBJECTS_BUCKET." if status == 404 else RIGHTS
        said.fail("bucket", f"{objects.bucket} at {where}: {status or error}", mend)
        return False
    except Exception as error:
        said.fail(
            "bucket",
            f"{where} does not answer: {error}",
            "Start the object store, or set SSKAI_OBJECTS_URL to where it answers this machine.",
        )
        return False
    took, ours = time.monotonic() - started, now()
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    said.ok("bucket", f"{objects.bucket} at {where}")
    _region(said, settings, headers.get("x-amz-bucket-region", ""))
    if date := headers.get("date"):
        told = parsedate_to_datetime(date).astimezone(UTC)
        clock.judge(said, "clock", told, ours, exact_seconds=took + HTTP_DATE_SECONDS)
    else:
        said.skip("clock", "the store's answers have no Date")
    return True


def _region(said: Findings, settings: Settings, region: str) -> None:
    ours = settings.objects_region
    host = urlsplit(settings.objects_url).hostname or ""
    on_aws = not settings.objects_url or host.endswith(".amazonaws.com")
    if region and ours and region != ours:
        said.fail(
            "region",
            f"the bucket is in {region}, SSKAI_OBJECTS_REGION says {ours}",
            f"Set SSKAI_OBJECTS_REGION={region}: plans count the wrong traffic between regions.",
        )
    elif on_aws and not ours:
        said.warn(
            "region",
            f"SSKAI_OBJECTS_REGION is not set; the bucket is in {region or 'one that it does not tell'}",
            "Set it: unset, data that crosses regions costs nothing in plans.",
        )
    else:
        said.ok("region", ours or region or "none: a store of your own")


def _condition(said: Findings, objects: Objects, key: str) -> None:
    try:
        objects.put_bytes(key, BODY, if_absent=True)
    except AlreadyExistsError:
        said.ok("conditional write", "a second writer of a key is refused")
    except ClientError as error:
        said.fail(
            "conditional write",
            f"not known here: {error}",
            "Use a store that knows If-None-Match on PUT: fences stand on it.",
        )
    else:
        said.fail(
            "conditional write",
            "If-None-Match is ignored: a second writer overwrites the first",
            "Use a store that knows it (AWS S3, SeaweedFS): two attempts could both hold a fence.",
        )


def _multipart(said: Findings, objects: Objects, key: str) -> None:
    parts = Multipart(objects)
    try:
        upload = parts.begin(key)
        parts.put(key, upload, 1, BODY)
        parts.complete(key, upload, parts.parts(key, upload))
        whole = objects.get_bytes(key) == BODY
        left = parts.begin(f"{key}-left")
        parts.put(f"{key}-left", left, 1, BODY)
        aborted = parts.abort(f"{key}-left") == 1
        objects.delete(key)
    except (ClientError, NotFoundError) as error:
        said.fail("multipart", str(error), RIGHTS)
        return
    if whole and aborted:
        said.ok("multipart", "begun, completed, aborted")
    else:
        said.fail(
            "multipart",
            "parts do not make the object, or an upload is not aborted",
            "Large uploads and models need it: use another store.",
        )


def _signed(said: Findings, objects: Objects, key: str) -> None:
    parts = Multipart(objects)
    upload = parts.begin(f"{key}-signed")
    try:
        put = httpx2.put(parts.presigned(f"{key}-signed", upload, 1, len(BODY)), content=BODY, timeout=HTTP_SECONDS)
        got = httpx2.get(objects.presigned_get(key), timeout=HTTP_SECONDS)
    finally:
        parts.abort(f"{key}-signed")
    if put.status_code == 200 and got.content == BODY:
        said.ok("signed addresses", "a part is put and an object read by them")
    else:
        said.fail(
            "signed addresses",
            f"PUT {put.status_code}, GET {got.status_code}",
            "Look whether a proxy before the store changes Host or the path, and whether clocks agree.",
        )


def _public(said: Findings, objects: Objects, key: str) -> None:
    address = objects.presigned_get(key).partition("?")[0]
    read = httpx2.get(address, timeout=HTTP_SECONDS).status_code
    listed = httpx2.get(f"{address.removesuffix(key)}?list-type=2", timeout=HTTP_SECONDS).status_code
    if read == 200 or listed == 200:
        said.fail(
            "public access",
            "anybody may read it without a key",
            "Block public access of the bucket and remove policies and ACLs for everybody.",
        )
    else:
        said.ok("public access", f"refused without a key ({read})")


def _deleted(said: Findings, objects: Objects, key: str) -> None:
    try:
        objects.get_bytes(key)
    except NotFoundError:
        said.ok("delete", "gone")
    else:
        said.fail("delete", "what was deleted is still read", RIGHTS)
