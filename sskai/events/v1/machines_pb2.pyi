import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from sskai.events.v1 import common_pb2 as _common_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PriceObserved(_message.Message):
    __slots__ = ("offer", "cloud", "region", "zone", "instance_type", "capacity_type", "price_usd_per_hour", "source", "observed_at")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRICE_USD_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    offer: str
    cloud: str
    region: str
    zone: str
    instance_type: str
    capacity_type: _common_pb2.CapacityType
    price_usd_per_hour: float
    source: str
    observed_at: _timestamp_pb2.Timestamp
    def __init__(self, offer: _Optional[str] = ..., cloud: _Optional[str] = ..., region: _Optional[str] = ..., zone: _Optional[str] = ..., instance_type: _Optional[str] = ..., capacity_type: _Optional[_Union[_common_pb2.CapacityType, str]] = ..., price_usd_per_hour: _Optional[float] = ..., source: _Optional[str] = ..., observed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class InterruptionNoticed(_message.Message):
    __slots__ = ("machine_id", "action", "notice_seconds", "source", "noticed_at", "terminates_at", "reason")
    MACHINE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    NOTICE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NOTICED_AT_FIELD_NUMBER: _ClassVar[int]
    TERMINATES_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    machine_id: str
    action: str
    notice_seconds: float
    source: str
    noticed_at: _timestamp_pb2.Timestamp
    terminates_at: _timestamp_pb2.Timestamp
    reason: str
    def __init__(self, machine_id: _Optional[str] = ..., action: _Optional[str] = ..., notice_seconds: _Optional[float] = ..., source: _Optional[str] = ..., noticed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., terminates_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class MachineLost(_message.Message):
    __slots__ = ("machine_id", "reason", "lost_at")
    MACHINE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LOST_AT_FIELD_NUMBER: _ClassVar[int]
    machine_id: str
    reason: str
    lost_at: _timestamp_pb2.Timestamp
    def __init__(self, machine_id: _Optional[str] = ..., reason: _Optional[str] = ..., lost_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CapacityDenied(_message.Message):
    __slots__ = ("offer", "placement", "job_id", "detail", "denied_at")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DENIED_AT_FIELD_NUMBER: _ClassVar[int]
    offer: str
    placement: _common_pb2.Placement
    job_id: str
    detail: str
    denied_at: _timestamp_pb2.Timestamp
    def __init__(self, offer: _Optional[str] = ..., placement: _Optional[_Union[_common_pb2.Placement, _Mapping]] = ..., job_id: _Optional[str] = ..., detail: _Optional[str] = ..., denied_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
