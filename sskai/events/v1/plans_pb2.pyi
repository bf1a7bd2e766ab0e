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
    __slots__ = ("job_id", "tenant_id", "plan_id", "preview", "after_attempt", "profile", "candidates", "rejections", "spot_policy", "checkpoint_interval_steps", "snapshot_hash", "prices_as_of", "proposed_at", "explanation", "objective", "planner_version", "throughput_version", "point_of_no_return", "cause", "fitting", "naive")
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
    PLANNER_VERSION_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUT_VERSION_FIELD_NUMBER: _ClassVar[int]
    POINT_OF_NO_RETURN_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    FITTING_FIELD_NUMBER: _ClassVar[int]
    NAIVE_FIELD_NUMBER: _ClassVar[int]
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
    planner_version: str
    throughput_version: str
    point_of_no_return: _timestamp_pb2.Timestamp
    cause: str
    fitting: int
    naive: _common_pb2.Candidate
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., plan_id: _Optional[str] = ..., preview: _Optional[bool] = ..., after_attempt: _Optional[int] = ..., profile: _Optional[_Union[_common_pb2.WorkProfile, _Mapping]] = ..., candidates: _Optional[_Iterable[_Union[_common_pb2.Candidate, _Mapping]]] = ..., rejections: _Optional[_Iterable[_Union[_common_pb2.Rejection, _Mapping]]] = ..., spot_policy: _Optional[_Union[_common_pb2.SpotPolicy, str]] = ..., checkpoint_interval_steps: _Optional[int] = ..., snapshot_hash: _Optional[str] = ..., prices_as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., proposed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., explanation: _Optional[str] = ..., objective: _Optional[_Union[_common_pb2.Objective, str]] = ..., planner_version: _Optional[str] = ..., throughput_version: _Optional[str] = ..., point_of_no_return: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cause: _Optional[str] = ..., fitting: _Optional[int] = ..., naive: _Optional[_Union[_common_pb2.Candidate, _Mapping]] = ...) -> None: ...

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

class PlanReplayRequested(_message.Message):
    __slots__ = ("plan_id", "tenant_id", "replay_id", "policy", "requested_at")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    tenant_id: str
    replay_id: str
    policy: str
    requested_at: _timestamp_pb2.Timestamp
    def __init__(self, plan_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., replay_id: _Optional[str] = ..., policy: _Optional[str] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PlanReplayed(_message.Message):
    __slots__ = ("plan_id", "tenant_id", "replay_id", "policy", "problem", "equal", "snapshot_hash", "planner_version", "stored_planner_version", "differences", "stored_choice", "choice", "explanation", "replayed_at")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_HASH_FIELD_NUMBER: _ClassVar[int]
    PLANNER_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORED_PLANNER_VERSION_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    STORED_CHOICE_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_AT_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    tenant_id: str
    replay_id: str
    policy: str
    problem: str
    equal: bool
    snapshot_hash: str
    planner_version: str
    stored_planner_version: str
    differences: _containers.RepeatedScalarFieldContainer[str]
    stored_choice: _common_pb2.Candidate
    choice: _common_pb2.Candidate
    explanation: str
    replayed_at: _timestamp_pb2.Timestamp
    def __init__(self, plan_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., replay_id: _Optional[str] = ..., policy: _Optional[str] = ..., problem: _Optional[str] = ..., equal: _Optional[bool] = ..., snapshot_hash: _Optional[str] = ..., planner_version: _Optional[str] = ..., stored_planner_version: _Optional[str] = ..., differences: _Optional[_Iterable[str]] = ..., stored_choice: _Optional[_Union[_common_pb2.Candidate, _Mapping]] = ..., choice: _Optional[_Union[_common_pb2.Candidate, _Mapping]] = ..., explanation: _Optional[str] = ..., replayed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndpointPlanRequested(_message.Message):
    __slots__ = ("plan_id", "tenant_id", "spec", "requested_at")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    tenant_id: str
    spec: _common_pb2.EndpointSpec
    requested_at: _timestamp_pb2.Timestamp
    def __init__(self, plan_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., spec: _Optional[_Union[_common_pb2.EndpointSpec, _Mapping]] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndpointPlanProposed(_message.Message):
    __slots__ = ("plan_id", "tenant_id", "options", "explanation", "snapshot_hash", "planner_version", "prices_as_of", "proposed_at")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_HASH_FIELD_NUMBER: _ClassVar[int]
    PLANNER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PRICES_AS_OF_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_AT_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    tenant_id: str
    options: _containers.RepeatedCompositeFieldContainer[_common_pb2.EndpointOption]
    explanation: str
    snapshot_hash: str
    planner_version: str
    prices_as_of: _timestamp_pb2.Timestamp
    proposed_at: _timestamp_pb2.Timestamp
    def __init__(self, plan_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., options: _Optional[_Iterable[_Union[_common_pb2.EndpointOption, _Mapping]]] = ..., explanation: _Optional[str] = ..., snapshot_hash: _Optional[str] = ..., planner_version: _Optional[str] = ..., prices_as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., proposed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
