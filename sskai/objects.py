"""The object store: S3 by boto3, behind a handful of functions. Synchronous; services call it by `asyncio.to_thread`.

Keys are laid out by what they belong to: `tenants/TENANT/datasets/...`, `jobs/JOB_ID/...`, `models/MODEL_ID/...`.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sskai import failpoints
from sskai.settings import Settings

PART_BYTES = 8 * 1024 * 1024
# Small files go up in one request; larger ones in parallel parts.
_TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
PARTS_AHEAD = 4  # of one object, in memory at a time
MAX_SPOOL_BYTES = 16 * 1024 * 1024
# What EKS tells a pod whose service account has a role.
ROLE_VARIABLES = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_SESSION_NAME", "AWS_REGION")


class NotFoundError(Exception):
    """No object has this key."""


class AlreadyExistsError(Exception):
    """A conditional write found that somebody else had written the key first."""


class ObjectsUnavailableError(ConnectionError):
    """The object store does not answer, or not sensibly: try again later."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    bytes: int
    etag: str


def uri_of(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"


def key_of(bucket: str, uri: str) -> str:
    """The key of a URI of this bucket; ValueError for any other."""
    prefix = uri_of(bucket, "")
    if not uri.startswith(prefix) or ".." in uri.split("/"):
        raise ValueError(f"{uri!r} is not in {prefix}")
    return uri.removeprefix(prefix)


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to open a bucket; another process can be told it."""

    url: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = ""
    # Without a key: the variables of the role, which leave the environment before code of users runs.
    role: dict[str, str] = field(default_factory=dict, repr=False)


@failpoints.boundary("objects", ObjectsUnavailableError)
class Objects:
    """One bucket. Raises NotFoundError, AlreadyExistsError, ObjectsUnavailableError.

    Without a `url` it is AWS's, in the region; without a key boto3 looks for credentials where it always does.
    """

    def __init__(self, url: str, bucket: str, access_key: str, secret_key: str, region: str = "") -> None:
        self.bucket = bucket
        role = {} if access_key else {name: os.environ[name] for name in ROLE_VARIABLES if name in os.environ}
        self.access = Access(url, bucket, access_key, secret_key, region, role)
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=url or None,
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None if access_key else None,
            region_name=region or "us-east-1",
            config=Config(
                signature_version="s3v4",
                # A server of one's own seldom has a name for each bucket.
                s3={"addressing_style": "path" if url else "virtual"},
                retries={"max_attempts": 5, "mode": "standard"},
                connect_timeout=3,
                read_timeout=60,
                max_pool_connections=16,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Objects:
        return cls(
            settings.objects_url,
            settings.objects_bucket,
            settings.objects_access_key,
            settings.objects_secret_key.get_secret_value(),
            settings.objects_region,
        )

    @failpoints.stays
    def uri(self, key: str) -> str:
        return uri_of(self.bucket, key)

    @failpoints.stays
    def key(self, uri: str) -> str:
        return key_of(self.bucket, uri)

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, kind: str = "") -> str:
        """Write an object whole; returns its ETag. `if_absent`: AlreadyExistsError if the key is taken (atomic).

        `kind` becomes its tag `sskai-kind`, by which a lifecycle rule of the bucket finds it.
        """
        more = ({"IfNoneMatch": "*"} if if_absent else {}) | ({"Tagging": f"sskai-kind={kind}"} if kind else {})
        with errors(key):
            etag: str = self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, **more)["ETag"]
        return etag

    def put_file(self, key: str, path: Path) -> None:
        """Upload a file, in parallel parts if it is large."""
        with errors(key):
            self.s3.upload_file(str(path), self.bucket, key, Config=_TRANSFER)

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        """Upload what an iterator yields in constant memory; returns the number of bytes. Nothing is kept on error."""
        size = 0
        with tempfile.SpooledTemporaryFile(max_size=MAX_SPOOL_BYTES) as spool:
            for chunk in chunks:
                size += spool.write(chunk)
            spool.seek(0)
            with errors(key):
                self.s3.upload_fileobj(spool, self.bucket, key, Config=_TRANSFER)
        return size

    def get_bytes(self, key: str) -> bytes:
        """An object whole: for manifests and small documents.

        Whoever may list a part of the bucket only is told 403, not 404, of a key that is not there: it is looked for.
        """
        try:
            with errors(key):
                data: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] == "AccessDenied" and key not in {one.key for one in self.list(key)}:
                raise NotFoundError(key) from error
            raise
        return data

    def open(self, key: str, chunk_bytes: int = 1024 * 1024) -> Iterator[bytes]:
        """An object's bytes, a chunk at a time."""
        with errors(key):
            body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"]
            yield from body.iter_chunks(chunk_bytes)

    def fetch(self, key: str, size_bytes: int) -> Iterator[bytes]:
        """The first `size_bytes` of an object in order, a part at a time, while the next parts are on their way.

        Fewer come if the object is shorter.
        """
        starts = range(0, size_bytes, PART_BYTES)
        with ThreadPoolExecutor(PARTS_AHEAD) as pool:
            coming: deque[Future[bytes]] = deque()
            for start in starts:
                coming.append(pool.submit(self._range, key, start, min(start + PART_BYTES, size_bytes)))
                if len(coming) == PARTS_AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def _range(self, key: str, start: int, end: int) -> bytes:
        try:
            with errors(key):
                body = self.s3.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{end - 1}")["Body"]
                data: bytes = body.read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("InvalidRange", "416"):
                return b""  # it ends before
            raise
        return data

    def download(self, key: str, path: Path) -> None:
        """Fetch an object into a file, which appears only when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with errors(key):
            self.s3.download_file(self.bucket, key, str(part), Config=_TRANSFER)
        part.replace(path)

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Every object under a prefix, sorted by key."""
        with errors(prefix):
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [
                ObjectInfo(item["Key"], int(item["Size"]), item["ETag"])
                for page in pages
                for item in page.get("Contents", [])
            ]

    def delete(self, prefix: str) -> int:
        """Delete every object under a prefix; returns how many. A missing one is no error."""
        keys = [info.key for info in self.list(prefix)]
        with errors(prefix):
            for key in keys:
                self.s3.delete_object(Bucket=self.bucket, Key=key)
        return len(keys)

    def size(self, key: str) -> int:
        """Of an object, in bytes."""
        with errors(key):
            return int(self.s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"])

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`; fewer if the object ends earlier."""
        return self._range(key, start, end) if end > start else b""

    @failpoints.stays
    def at(self, url: str) -> Objects:
        """The same bucket by another address: the one that users reach it by."""
        return Objects(url, self.bucket, self.access.access_key, self.access.secret_key, self.access.region)

    @failpoints.stays
    def presigned_get(self, key: str, seconds: int = 900) -> str:
        """A URL that anybody may read this one object by, for at most 15 minutes."""
        url: str = self.s3.generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=min(seconds, 900)
        )
        return url


class errors:  # noqa: N801 (reads as a statement)
    """Turns botocore's words into ours."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in ("NoSuchKey", "NoSuchUpload", "404", "NotFound"):
                raise NotFoundError(self._key) from error
            if code in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                raise AlreadyExistsError(self._key) from error
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if status >= 500 or code == "SlowDown":
                raise ObjectsUnavailableError(f"{self._key}: {code}") from error
        elif isinstance(error, BotoCoreError | S3UploadFailedError | RetriesExceededError):
            raise ObjectsUnavailableError(f"{self._key}: {error}") from error
