"""Objects that come in parts, of any size and in any order: S3's multipart uploads. Synchronous, as `objects.py`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from sskai import failpoints
from sskai.objects import Objects, ObjectsUnavailableError, errors

# S3's own limits: only the last part may be smaller.
MIN_PART_BYTES = 5 * 1024 * 1024
MAX_PART_NUMBER = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a multipart upload that is there. Numbers go from 1 to MAX_PART_NUMBER."""

    number: int
    bytes: int
    etag: str
    stored_at: datetime


@failpoints.boundary("multipart", ObjectsUnavailableError)
class Multipart:
    """Multipart uploads into one bucket. Raises NotFoundError for one that is over, ObjectsUnavailableError."""

    def __init__(self, objects: Objects) -> None:
        self._s3 = objects.s3
        self._bucket = objects.bucket

    def begin(self, key: str) -> str:
        """Begin a multipart upload; returns its id. It costs storage until it is completed or aborted."""
        with errors(key):
            upload_id: str = self._s3.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]
        return upload_id

    def put(self, key: str, upload_id: str, number: int, body: bytes | IO[bytes]) -> str:
        """Store a part (again, if it is there); returns its ETag. NotFoundError: there is no such upload any more."""
        with errors(key):
            etag: str = self._s3.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body
            )["ETag"]
        return etag

    def parts(self, key: str, upload_id: str) -> list[Part]:
        """Those that are there, by number. NotFoundError: there is no such upload any more."""
        with errors(key):
            pages = self._s3.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload_id)
            return [
                Part(int(item["PartNumber"]), int(item["Size"]), item["ETag"], item["LastModified"])
                for page in pages
                for item in page.get("Parts", [])
            ]

    def complete(self, key: str, upload_id: str, parts: Iterable[Part]) -> None:
        """Make the object of these parts, in the order of their numbers; the other parts are dropped."""
        named = [{"PartNumber": part.number, "ETag": part.etag} for part in sorted(parts, key=lambda one: one.number)]
        with errors(key):
            self._s3.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": named}
            )

    def abort(self, prefix: str) -> int:
        """End every multipart upload under a prefix and drop its parts; returns how many there were."""
        with errors(prefix):
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
            begun = [(item["Key"], item["UploadId"]) for page in pages for item in page.get("Uploads", [])]
            for key, upload_id in begun:
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        return len(begun)

    @failpoints.stays
    def presigned(self, key: str, upload_id: str, number: int, size_bytes: int, seconds: int = 900) -> str:
        """A URL by which this one part, of this size, may be PUT, for at most 15 minutes; nothing else is allowed."""
        part = {"Bucket": self._bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        url: str = self._s3.generate_presigned_url(
            "upload_part", Params={**part, "ContentLength": size_bytes}, ExpiresIn=min(seconds, 900)
        )
        return url


class Writer:
    """An object that is written piece by piece in constant memory. It is there when it is closed, and not before."""

    PART_BYTES = 16 * 1024 * 1024

    def __init__(self, multipart: Multipart, key: str) -> None:
        self._multipart = multipart
        self._key = key
        self._upload_id = multipart.begin(key)
        self._waiting = bytearray()
        self._parts: list[Part] = []

    def write(self, data: bytes) -> int:
        self._waiting += data
        while len(self._waiting) >= self.PART_BYTES:
            self._put(bytes(self._waiting[: self.PART_BYTES]))
            del self._waiting[: self.PART_BYTES]
        return len(data)

    def close(self) -> None:
        if self._waiting or not self._parts:
            self._put(bytes(self._waiting))
            self._waiting.clear()
        self._multipart.complete(self._key, self._upload_id, self._parts)

    def _put(self, data: bytes) -> None:
        number = len(self._parts) + 1
        etag = self._multipart.put(self._key, self._upload_id, number, data)
        self._parts.append(Part(number, len(data), etag, datetime.now(UTC)))
