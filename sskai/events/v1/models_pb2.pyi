import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelVersionReady(_message.Message):
    __slots__ = ("model_id", "tenant_id", "version", "name", "job_id", "base_model_id", "base_uri", "method", "artifact_uri", "manifest_sha256", "dataset_id", "dataset_uri", "eval_loss_before", "eval_loss_after", "ready_at", "bytes")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_URI_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_URI_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_URI_FIELD_NUMBER: _ClassVar[int]
    EVAL_LOSS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EVAL_LOSS_AFTER_FIELD_NUMBER: _ClassVar[int]
    READY_AT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    tenant_id: str
    version: int
    name: str
    job_id: str
    base_model_id: str
    base_uri: str
    method: str
    artifact_uri: str
    manifest_sha256: str
    dataset_id: str
    dataset_uri: str
    eval_loss_before: float
    eval_loss_after: float
    ready_at: _timestamp_pb2.Timestamp
    bytes: int
    def __init__(self, model_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., version: _Optional[int] = ..., name: _Optional[str] = ..., job_id: _Optional[str] = ..., base_model_id: _Optional[str] = ..., base_uri: _Optional[str] = ..., method: _Optional[str] = ..., artifact_uri: _Optional[str] = ..., manifest_sha256: _Optional[str] = ..., dataset_id: _Optional[str] = ..., dataset_uri: _Optional[str] = ..., eval_loss_before: _Optional[float] = ..., eval_loss_after: _Optional[float] = ..., ready_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., bytes: _Optional[int] = ...) -> None: ...

class ModelVersionRefused(_message.Message):
    __slots__ = ("job_id", "tenant_id", "artifact_uri", "reason", "advice", "refused_at")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_URI_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    artifact_uri: str
    reason: str
    advice: str
    refused_at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., artifact_uri: _Optional[str] = ..., reason: _Optional[str] = ..., advice: _Optional[str] = ..., refused_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ModelEvaluated(_message.Message):
    __slots__ = ("model_id", "tenant_id", "version", "dataset_id", "metric", "value", "champion_value", "sample_size", "evaluated_at", "difference_standard_error", "champion_version", "rows_left_out")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VALUE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    EVALUATED_AT_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROWS_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    tenant_id: str
    version: int
    dataset_id: str
    metric: str
    value: float
    champion_value: float
    sample_size: int
    evaluated_at: _timestamp_pb2.Timestamp
    difference_standard_error: float
    champion_version: int
    rows_left_out: int
    def __init__(self, model_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., version: _Optional[int] = ..., dataset_id: _Optional[str] = ..., metric: _Optional[str] = ..., value: _Optional[float] = ..., champion_value: _Optional[float] = ..., sample_size: _Optional[int] = ..., evaluated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., difference_standard_error: _Optional[float] = ..., champion_version: _Optional[int] = ..., rows_left_out: _Optional[int] = ...) -> None: ...

class ModelPromoted(_message.Message):
    __slots__ = ("model_id", "tenant_id", "version", "alias", "previous_version", "promoted_at", "endpoint_id")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    tenant_id: str
    version: int
    alias: str
    previous_version: int
    promoted_at: _timestamp_pb2.Timestamp
    endpoint_id: str
    def __init__(self, model_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., version: _Optional[int] = ..., alias: _Optional[str] = ..., previous_version: _Optional[int] = ..., promoted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., endpoint_id: _Optional[str] = ...) -> None: ...

class ModelRolledBack(_message.Message):
    __slots__ = ("model_id", "tenant_id", "version", "to_version", "reason", "rolled_back_at", "endpoint_id")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_AT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    tenant_id: str
    version: int
    to_version: int
    reason: str
    rolled_back_at: _timestamp_pb2.Timestamp
    endpoint_id: str
    def __init__(self, model_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., version: _Optional[int] = ..., to_version: _Optional[int] = ..., reason: _Optional[str] = ..., rolled_back_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., endpoint_id: _Optional[str] = ...) -> None: ...

class ModelDeleted(_message.Message):
    __slots__ = ("model_id", "tenant_id", "version", "name", "deleted_at")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    tenant_id: str
    version: int
    name: str
    deleted_at: _timestamp_pb2.Timestamp
    def __init__(self, model_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., version: _Optional[int] = ..., name: _Optional[str] = ..., deleted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
