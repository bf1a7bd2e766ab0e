import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from sskai.events.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpendRecorded(_message.Message):
    __slots__ = ("job_id", "tenant_id", "interval", "attempt", "machine_id", "placement", "started_at", "ended_at", "price_usd_per_hour", "amount_nano_usd", "on_demand_nano_usd", "endpoint_id", "input_tokens", "output_tokens", "kind", "quantity", "unit", "machines")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MACHINE_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    PRICE_USD_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MACHINES_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    interval: int
    attempt: int
    machine_id: str
    placement: _common_pb2.Placement
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    price_usd_per_hour: float
    amount_nano_usd: int
    on_demand_nano_usd: int
    endpoint_id: str
    input_tokens: int
    output_tokens: int
    kind: str
    quantity: float
    unit: str
    machines: int
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., interval: _Optional[int] = ..., attempt: _Optional[int] = ..., machine_id: _Optional[str] = ..., placement: _Optional[_Union[_common_pb2.Placement, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., price_usd_per_hour: _Optional[float] = ..., amount_nano_usd: _Optional[int] = ..., on_demand_nano_usd: _Optional[int] = ..., endpoint_id: _Optional[str] = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., kind: _Optional[str] = ..., quantity: _Optional[float] = ..., unit: _Optional[str] = ..., machines: _Optional[int] = ...) -> None: ...

class BudgetSet(_message.Message):
    __slots__ = ("budget_id", "tenant_id", "scope", "target", "amount_nano_usd", "period", "thresholds", "action", "set_at")
    BUDGET_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SET_AT_FIELD_NUMBER: _ClassVar[int]
    budget_id: str
    tenant_id: str
    scope: str
    target: str
    amount_nano_usd: int
    period: str
    thresholds: _containers.RepeatedScalarFieldContainer[float]
    action: str
    set_at: _timestamp_pb2.Timestamp
    def __init__(self, budget_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., scope: _Optional[str] = ..., target: _Optional[str] = ..., amount_nano_usd: _Optional[int] = ..., period: _Optional[str] = ..., thresholds: _Optional[_Iterable[float]] = ..., action: _Optional[str] = ..., set_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BudgetRemoved(_message.Message):
    __slots__ = ("budget_id", "tenant_id", "removed_at")
    BUDGET_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REMOVED_AT_FIELD_NUMBER: _ClassVar[int]
    budget_id: str
    tenant_id: str
    removed_at: _timestamp_pb2.Timestamp
    def __init__(self, budget_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., removed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SpendReserveRequested(_message.Message):
    __slots__ = ("job_id", "tenant_id", "number", "project", "endpoint_id", "spent_nano_usd", "minimum_nano_usd", "wanted_nano_usd", "requested_at")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    SPENT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    WANTED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    number: int
    project: str
    endpoint_id: str
    spent_nano_usd: int
    minimum_nano_usd: int
    wanted_nano_usd: int
    requested_at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., number: _Optional[int] = ..., project: _Optional[str] = ..., endpoint_id: _Optional[str] = ..., spent_nano_usd: _Optional[int] = ..., minimum_nano_usd: _Optional[int] = ..., wanted_nano_usd: _Optional[int] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SpendReserved(_message.Message):
    __slots__ = ("job_id", "tenant_id", "number", "limit_nano_usd", "reserved_at")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    RESERVED_AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    number: int
    limit_nano_usd: int
    reserved_at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., number: _Optional[int] = ..., limit_nano_usd: _Optional[int] = ..., reserved_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SpendReserveDeclined(_message.Message):
    __slots__ = ("job_id", "tenant_id", "number", "limit_nano_usd", "budget_id", "detail", "declined_at")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    BUDGET_ID_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DECLINED_AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    number: int
    limit_nano_usd: int
    budget_id: str
    detail: str
    declined_at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., number: _Optional[int] = ..., limit_nano_usd: _Optional[int] = ..., budget_id: _Optional[str] = ..., detail: _Optional[str] = ..., declined_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BudgetThresholdReached(_message.Message):
    __slots__ = ("job_id", "tenant_id", "fraction", "spent_usd", "budget_usd", "at", "budget_id", "scope", "target", "period", "action")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    SPENT_USD_FIELD_NUMBER: _ClassVar[int]
    BUDGET_USD_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    fraction: float
    spent_usd: float
    budget_usd: float
    at: _timestamp_pb2.Timestamp
    budget_id: str
    scope: str
    target: str
    period: str
    action: str
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., fraction: _Optional[float] = ..., spent_usd: _Optional[float] = ..., budget_usd: _Optional[float] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., budget_id: _Optional[str] = ..., scope: _Optional[str] = ..., target: _Optional[str] = ..., period: _Optional[str] = ..., action: _Optional[str] = ...) -> None: ...

class ReceiptIssued(_message.Message):
    __slots__ = ("job_id", "tenant_id", "outcome", "intervals", "attempts", "interruptions", "machine_seconds", "useful_seconds", "lost_seconds", "overhead_seconds", "paid_nano_usd", "lost_nano_usd", "on_demand_nano_usd", "saving_fraction", "issued_at", "restart_seconds", "elapsed_seconds", "waiting_seconds", "naive_nano_usd", "naive_seconds", "naive_instance_type", "naive_saving_fraction", "time_saved_seconds")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTIONS_FIELD_NUMBER: _ClassVar[int]
    MACHINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    USEFUL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PAID_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    LOST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    SAVING_FRACTION_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    RESTART_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WAITING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NAIVE_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    NAIVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NAIVE_INSTANCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    NAIVE_SAVING_FRACTION_FIELD_NUMBER: _ClassVar[int]
    TIME_SAVED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    outcome: str
    intervals: int
    attempts: int
    interruptions: int
    machine_seconds: float
    useful_seconds: float
    lost_seconds: float
    overhead_seconds: float
    paid_nano_usd: int
    lost_nano_usd: int
    on_demand_nano_usd: int
    saving_fraction: float
    issued_at: _timestamp_pb2.Timestamp
    restart_seconds: float
    elapsed_seconds: float
    waiting_seconds: float
    naive_nano_usd: int
    naive_seconds: float
    naive_instance_type: str
    naive_saving_fraction: float
    time_saved_seconds: float
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., outcome: _Optional[str] = ..., intervals: _Optional[int] = ..., attempts: _Optional[int] = ..., interruptions: _Optional[int] = ..., machine_seconds: _Optional[float] = ..., useful_seconds: _Optional[float] = ..., lost_seconds: _Optional[float] = ..., overhead_seconds: _Optional[float] = ..., paid_nano_usd: _Optional[int] = ..., lost_nano_usd: _Optional[int] = ..., on_demand_nano_usd: _Optional[int] = ..., saving_fraction: _Optional[float] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., restart_seconds: _Optional[float] = ..., elapsed_seconds: _Optional[float] = ..., waiting_seconds: _Optional[float] = ..., naive_nano_usd: _Optional[int] = ..., naive_seconds: _Optional[float] = ..., naive_instance_type: _Optional[str] = ..., naive_saving_fraction: _Optional[float] = ..., time_saved_seconds: _Optional[float] = ...) -> None: ...
