import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from sskai.events.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PlanRequested(_message.Message):
    __slots__ = ("job_id", "tenant_id", "spec", "requested_at")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    spec: _common_pb2.JobSpec
    requested_at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., spec: _Optional[_Union[_common_pb2.JobSpec, _Mapping]] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PlanProposed(_message.Message):
    __slots__ = ("job_id", "tenant_id", "plan_id", "preview", "after_attempt", "profile", "candidates", "rejections", "spot_policy", "checkpoint_interval_steps", "snapshot_hash", "prices_as_of", "proposed_at", "explanation", "objective")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    AFTER_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    SPOT_POLICY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_INTERVAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_HASH_FIELD_NUMBER: _ClassVar[int]
    PRICES_AS_OF_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    plan_id: str
    preview: bool
    after_attempt: int
    profile: _common_pb2.WorkProfile
    candidates: _containers.RepeatedCompositeFieldContainer[_common_pb2.Candidate]
    rejections: _containers.RepeatedCompositeFieldContainer[_common_pb2.Rejection]
    spot_policy: _common_pb2.SpotPolicy
    checkpoint_interval_steps: int
    snapshot_hash: str
    prices_as_of: _timestamp_pb2.Timestamp
    proposed_at: _timestamp_pb2.Timestamp
    explanation: str
    objective: _common_pb2.Objective
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., plan_id: _Optional[str] = ..., preview: _Optional[bool] = ..., after_attempt: _Optional[int] = ..., profile: _Optional[_Union[_common_pb2.WorkProfile, _Mapping]] = ..., candidates: _Optional[_Iterable[_Union[_common_pb2.Candidate, _Mapping]]] = ..., rejections: _Optional[_Iterable[_Union[_common_pb2.Rejection, _Mapping]]] = ..., spot_policy: _Optional[_Union[_common_pb2.SpotPolicy, str]] = ..., checkpoint_interval_steps: _Optional[int] = ..., snapshot_hash: _Optional[str] = ..., prices_as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., proposed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., explanation: _Optional[str] = ..., objective: _Optional[_Union[_common_pb2.Objective, str]] = ...) -> None: ...

class PlanRefused(_message.Message):
    __slots__ = ("job_id", "tenant_id", "plan_id", "preview", "after_attempt", "reason", "detail", "advice", "refused_at")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    AFTER_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    plan_id: str
    preview: bool
    after_attempt: int
    reason: str
    detail: str
    advice: str
    refused_at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., plan_id: _Optional[str] = ..., preview: _Optional[bool] = ..., after_attempt: _Optional[int] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., advice: _Optional[str] = ..., refused_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
