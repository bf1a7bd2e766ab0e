import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from sskai.events.v1 import common_pb2 as _common_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DatasetValidated(_message.Message):
    __slots__ = ("dataset_id", "tenant_id", "name", "version", "uri", "format", "rows", "bytes", "sha256", "estimated_tokens", "validated_at", "lineage")
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    VALIDATED_AT_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    tenant_id: str
    name: str
    version: int
    uri: str
    format: str
    rows: int
    bytes: int
    sha256: str
    estimated_tokens: int
    validated_at: _timestamp_pb2.Timestamp
    lineage: _common_pb2.DatasetLineage
    def __init__(self, dataset_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., uri: _Optional[str] = ..., format: _Optional[str] = ..., rows: _Optional[int] = ..., bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., estimated_tokens: _Optional[int] = ..., validated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lineage: _Optional[_Union[_common_pb2.DatasetLineage, _Mapping]] = ...) -> None: ...

class DatasetRejected(_message.Message):
    __slots__ = ("dataset_id", "tenant_id", "name", "row", "column", "reason", "rejected_at")
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REJECTED_AT_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    tenant_id: str
    name: str
    row: int
    column: str
    reason: str
    rejected_at: _timestamp_pb2.Timestamp
    def __init__(self, dataset_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., name: _Optional[str] = ..., row: _Optional[int] = ..., column: _Optional[str] = ..., reason: _Optional[str] = ..., rejected_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DatasetDeleted(_message.Message):
    __slots__ = ("dataset_id", "tenant_id", "name", "version", "deleted_at")
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    tenant_id: str
    name: str
    version: int
    deleted_at: _timestamp_pb2.Timestamp
    def __init__(self, dataset_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., deleted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
