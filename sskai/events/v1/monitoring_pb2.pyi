import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DriftDetected(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "model_id", "version", "signal", "test", "statistic", "threshold", "sample_size", "reference_size", "detected_at", "reference", "alpha", "member", "reference_mean", "recent_mean", "unit", "recent_samples", "began_at", "new_words", "explanation")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    STATISTIC_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_SIZE_FIELD_NUMBER: _ClassVar[int]
    DETECTED_AT_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_MEAN_FIELD_NUMBER: _ClassVar[int]
    RECENT_MEAN_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    RECENT_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_FIELD_NUMBER: _ClassVar[int]
    NEW_WORDS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    model_id: str
    version: int
    signal: str
    test: str
    statistic: float
    threshold: float
    sample_size: int
    reference_size: int
    detected_at: _timestamp_pb2.Timestamp
    reference: str
    alpha: float
    member: str
    reference_mean: float
    recent_mean: float
    unit: str
    recent_samples: int
    began_at: _timestamp_pb2.Timestamp
    new_words: _containers.RepeatedScalarFieldContainer[str]
    explanation: str
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., signal: _Optional[str] = ..., test: _Optional[str] = ..., statistic: _Optional[float] = ..., threshold: _Optional[float] = ..., sample_size: _Optional[int] = ..., reference_size: _Optional[int] = ..., detected_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reference: _Optional[str] = ..., alpha: _Optional[float] = ..., member: _Optional[str] = ..., reference_mean: _Optional[float] = ..., recent_mean: _Optional[float] = ..., unit: _Optional[str] = ..., recent_samples: _Optional[int] = ..., began_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., new_words: _Optional[_Iterable[str]] = ..., explanation: _Optional[str] = ...) -> None: ...

class ObjectiveBreached(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "objective", "value", "target", "window_seconds", "breached_at", "severity", "rule", "burn_rate", "answers")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BREACHED_AT_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    BURN_RATE_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    objective: str
    value: float
    target: float
    window_seconds: float
    breached_at: _timestamp_pb2.Timestamp
    severity: str
    rule: str
    burn_rate: float
    answers: int
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., objective: _Optional[str] = ..., value: _Optional[float] = ..., target: _Optional[float] = ..., window_seconds: _Optional[float] = ..., breached_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., severity: _Optional[str] = ..., rule: _Optional[str] = ..., burn_rate: _Optional[float] = ..., answers: _Optional[int] = ...) -> None: ...

class ObjectiveRecovered(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "objective", "breached_at", "recovered_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    BREACHED_AT_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    objective: str
    breached_at: _timestamp_pb2.Timestamp
    recovered_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., objective: _Optional[str] = ..., breached_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recovered_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RetrainRequested(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "retrain_id", "model_id", "version", "parent_job_id", "reason", "budget_usd", "requested_at", "data")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    RETRAIN_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BUDGET_USD_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    retrain_id: str
    model_id: str
    version: int
    parent_job_id: str
    reason: str
    budget_usd: float
    requested_at: _timestamp_pb2.Timestamp
    data: str
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., retrain_id: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., parent_job_id: _Optional[str] = ..., reason: _Optional[str] = ..., budget_usd: _Optional[float] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., data: _Optional[str] = ...) -> None: ...

class RetrainSuggested(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "retrain_id", "model_id", "version", "reason", "detail", "data", "expires_at", "suggested_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    RETRAIN_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    SUGGESTED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    retrain_id: str
    model_id: str
    version: int
    reason: str
    detail: str
    data: str
    expires_at: _timestamp_pb2.Timestamp
    suggested_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., retrain_id: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., data: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., suggested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RetrainDeclined(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "retrain_id", "rule", "detail", "declined_at", "reason")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    RETRAIN_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DECLINED_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    retrain_id: str
    rule: str
    detail: str
    declined_at: _timestamp_pb2.Timestamp
    reason: str
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., retrain_id: _Optional[str] = ..., rule: _Optional[str] = ..., detail: _Optional[str] = ..., declined_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...
