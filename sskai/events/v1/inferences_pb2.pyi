import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InferenceSampled(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "inference_id", "model_id", "version", "input_text", "output_text", "input_tokens", "output_tokens", "duration_seconds", "time_to_first_token_seconds", "finish_reason", "mean_logprob", "at", "error")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INPUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    inference_id: str
    model_id: str
    version: int
    input_text: str
    output_text: str
    input_tokens: int
    output_tokens: int
    duration_seconds: float
    time_to_first_token_seconds: float
    finish_reason: str
    mean_logprob: float
    at: _timestamp_pb2.Timestamp
    error: str
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., inference_id: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., input_text: _Optional[str] = ..., output_text: _Optional[str] = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., duration_seconds: _Optional[float] = ..., time_to_first_token_seconds: _Optional[float] = ..., finish_reason: _Optional[str] = ..., mean_logprob: _Optional[float] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[str] = ...) -> None: ...

class FeedbackGiven(_message.Message):
    __slots__ = ("endpoint_id", "tenant_id", "inference_id", "model_id", "version", "score", "label", "correction", "given_at")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    GIVEN_AT_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    tenant_id: str
    inference_id: str
    model_id: str
    version: int
    score: float
    label: str
    correction: str
    given_at: _timestamp_pb2.Timestamp
    def __init__(self, endpoint_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., inference_id: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., score: _Optional[float] = ..., label: _Optional[str] = ..., correction: _Optional[str] = ..., given_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
