import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from sskai.events.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EndpointRequested(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "name", "kind", "model_id", "version", "base_model_id", "base_uri", "artifact_uri", "sample_rate", "requested_at", "promotion_mode", "placements", "replicas", "engine", "project")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_URI_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_URI_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    PROMOTION_MODE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    name: str
    kind: str
    model_id: str
    version: int
    base_model_id: str
    base_uri: str
    artifact_uri: str
    sample_rate: float
    requested_at: _timestamp_pb2.Timestamp
    promotion_mode: str
    placements: _containers.RepeatedCompositeFieldContainer[_common_pb2.Placement]
    replicas: _common_pb2.ReplicaCount
    engine: str
    project: str
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., base_model_id: _Optional[str] = ..., base_uri: _Optional[str] = ..., artifact_uri: _Optional[str] = ..., sample_rate: _Optional[float] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., promotion_mode: _Optional[str] = ..., placements: _Optional[_Iterable[_Union[_common_pb2.Placement, _Mapping]]] = ..., replicas: _Optional[_Union[_common_pb2.ReplicaCount, _Mapping]] = ..., engine: _Optional[str] = ..., project: _Optional[str] = ...) -> None: ...

class EndpointReady(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "name", "model_id", "version", "load_seconds", "ready_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LOAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    READY_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    name: str
    model_id: str
    version: int
    load_seconds: float
    ready_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., name: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., load_seconds: _Optional[float] = ..., ready_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndpointScaled(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "replicas", "previous_replicas", "reason", "scaled_at", "cold_start_seconds")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCALED_AT_FIELD_NUMBER: _ClassVar[int]
    COLD_START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    replicas: int
    previous_replicas: int
    reason: str
    scaled_at: _timestamp_pb2.Timestamp
    cold_start_seconds: float
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., replicas: _Optional[int] = ..., previous_replicas: _Optional[int] = ..., reason: _Optional[str] = ..., scaled_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cold_start_seconds: _Optional[float] = ...) -> None: ...

class CanaryStarted(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "model_id", "version", "traffic_fraction", "started_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FRACTION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    model_id: str
    version: int
    traffic_fraction: float
    started_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., traffic_fraction: _Optional[float] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndpointFailed(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "reason", "advice", "failed_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    reason: str
    advice: str
    failed_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., reason: _Optional[str] = ..., advice: _Optional[str] = ..., failed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndpointDeletionRequested(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "requested_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    requested_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndpointDeleted(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "deleted_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    deleted_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., deleted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndpointTrafficRequested(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "action", "model_id", "version", "base_model_id", "base_uri", "artifact_uri", "rules", "requested_at")
    class Rules(_message.Message):
        __slots__ = ("mode", "steps", "minimum_requests", "minimum_seconds", "maximum_seconds", "error_tolerance", "latency_tolerance", "quality_tolerance", "shadow_fraction", "sticky_by_key")
        MODE_FIELD_NUMBER: _ClassVar[int]
        STEPS_FIELD_NUMBER: _ClassVar[int]
        MINIMUM_REQUESTS_FIELD_NUMBER: _ClassVar[int]
        MINIMUM_SECONDS_FIELD_NUMBER: _ClassVar[int]
        MAXIMUM_SECONDS_FIELD_NUMBER: _ClassVar[int]
        ERROR_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
        LATENCY_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
        QUALITY_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
        SHADOW_FRACTION_FIELD_NUMBER: _ClassVar[int]
        STICKY_BY_KEY_FIELD_NUMBER: _ClassVar[int]
        mode: str
        steps: _containers.RepeatedScalarFieldContainer[float]
        minimum_requests: int
        minimum_seconds: float
        maximum_seconds: float
        error_tolerance: float
        latency_tolerance: float
        quality_tolerance: float
        shadow_fraction: float
        sticky_by_key: bool
        def __init__(self, mode: _Optional[str] = ..., steps: _Optional[_Iterable[float]] = ..., minimum_requests: _Optional[int] = ..., minimum_seconds: _Optional[float] = ..., maximum_seconds: _Optional[float] = ..., error_tolerance: _Optional[float] = ..., latency_tolerance: _Optional[float] = ..., quality_tolerance: _Optional[float] = ..., shadow_fraction: _Optional[float] = ..., sticky_by_key: _Optional[bool] = ...) -> None: ...
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_URI_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_URI_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    action: str
    model_id: str
    version: int
    base_model_id: str
    base_uri: str
    artifact_uri: str
    rules: EndpointTrafficRequested.Rules
    requested_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., action: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., base_model_id: _Optional[str] = ..., base_uri: _Optional[str] = ..., artifact_uri: _Optional[str] = ..., rules: _Optional[_Union[EndpointTrafficRequested.Rules, _Mapping]] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndpointObjectivesSet(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "name", "objectives", "set_at")
    class Objective(_message.Message):
        __slots__ = ("name", "target", "at_most_seconds")
        NAME_FIELD_NUMBER: _ClassVar[int]
        TARGET_FIELD_NUMBER: _ClassVar[int]
        AT_MOST_SECONDS_FIELD_NUMBER: _ClassVar[int]
        name: str
        target: float
        at_most_seconds: float
        def __init__(self, name: _Optional[str] = ..., target: _Optional[float] = ..., at_most_seconds: _Optional[float] = ...) -> None: ...
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    SET_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    name: str
    objectives: _containers.RepeatedCompositeFieldContainer[EndpointObjectivesSet.Objective]
    set_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., name: _Optional[str] = ..., objectives: _Optional[_Iterable[_Union[EndpointObjectivesSet.Objective, _Mapping]]] = ..., set_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RetrainingPolicySet(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "mode", "on_drift", "on_new_dataset", "schedule", "data", "budget_usd_per_month", "cooldown_seconds", "confirm_alarms", "confirm_samples", "max_job_budget_usd", "set_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ON_DRIFT_FIELD_NUMBER: _ClassVar[int]
    ON_NEW_DATASET_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    BUDGET_USD_PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    COOLDOWN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_ALARMS_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    MAX_JOB_BUDGET_USD_FIELD_NUMBER: _ClassVar[int]
    SET_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    mode: str
    on_drift: bool
    on_new_dataset: bool
    schedule: str
    data: str
    budget_usd_per_month: float
    cooldown_seconds: float
    confirm_alarms: int
    confirm_samples: int
    max_job_budget_usd: float
    set_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., mode: _Optional[str] = ..., on_drift: _Optional[bool] = ..., on_new_dataset: _Optional[bool] = ..., schedule: _Optional[str] = ..., data: _Optional[str] = ..., budget_usd_per_month: _Optional[float] = ..., cooldown_seconds: _Optional[float] = ..., confirm_alarms: _Optional[int] = ..., confirm_samples: _Optional[int] = ..., max_job_budget_usd: _Optional[float] = ..., set_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RetrainingPolicyRemoved(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "removed_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REMOVED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    removed_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., removed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RetrainDecided(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "retrain_id", "approved", "decided_by", "decided_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    RETRAIN_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    retrain_id: str
    approved: bool
    decided_by: str
    decided_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., retrain_id: _Optional[str] = ..., approved: _Optional[bool] = ..., decided_by: _Optional[str] = ..., decided_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
