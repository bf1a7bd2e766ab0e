import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from sskai.events.v1 import common_pb2 as _common_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpendRecorded(_message.Message):
    __slots__ = ("job_id", "tenant_id", "interval", "attempt", "machine_id", "placement", "started_at", "ended_at", "price_usd_per_hour", "amount_nano_usd", "on_demand_nano_usd", "endpoint_id", "input_tokens", "output_tokens")
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
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., interval: _Optional[int] = ..., attempt: _Optional[int] = ..., machine_id: _Optional[str] = ..., placement: _Optional[_Union[_common_pb2.Placement, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., price_usd_per_hour: _Optional[float] = ..., amount_nano_usd: _Optional[int] = ..., on_demand_nano_usd: _Optional[int] = ..., endpoint_id: _Optional[str] = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ...) -> None: ...

class BudgetThresholdReached(_message.Message):
    __slots__ = ("job_id", "tenant_id", "fraction", "spent_usd", "budget_usd", "at")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    SPENT_USD_FIELD_NUMBER: _ClassVar[int]
    BUDGET_USD_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant_id: str
    fraction: float
    spent_usd: float
    budget_usd: float
    at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., fraction: _Optional[float] = ..., spent_usd: _Optional[float] = ..., budget_usd: _Optional[float] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReceiptIssued(_message.Message):
    __slots__ = ("job_id", "tenant_id", "outcome", "intervals", "attempts", "interruptions", "machine_seconds", "useful_seconds", "lost_seconds", "overhead_seconds", "paid_nano_usd", "lost_nano_usd", "on_demand_nano_usd", "saving_fraction", "issued_at")
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
    def __init__(self, job_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., outcome: _Optional[str] = ..., intervals: _Optional[int] = ..., attempts: _Optional[int] = ..., interruptions: _Optional[int] = ..., machine_seconds: _Optional[float] = ..., useful_seconds: _Optional[float] = ..., lost_seconds: _Optional[float] = ..., overhead_seconds: _Optional[float] = ..., paid_nano_usd: _Optional[int] = ..., lost_nano_usd: _Optional[int] = ..., on_demand_nano_usd: _Optional[int] = ..., saving_fraction: _Optional[float] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
