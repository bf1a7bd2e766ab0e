import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpotPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPOT_POLICY_UNSPECIFIED: _ClassVar[SpotPolicy]
    SPOT_POLICY_AUTO: _ClassVar[SpotPolicy]
    SPOT_POLICY_SPOT: _ClassVar[SpotPolicy]
    SPOT_POLICY_ON_DEMAND: _ClassVar[SpotPolicy]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]

class Objective(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBJECTIVE_UNSPECIFIED: _ClassVar[Objective]
    OBJECTIVE_CHEAPEST: _ClassVar[Objective]
    OBJECTIVE_FASTEST: _ClassVar[Objective]
    OBJECTIVE_CHEAPEST_WITHIN_DEADLINE: _ClassVar[Objective]
    OBJECTIVE_FASTEST_WITHIN_BUDGET: _ClassVar[Objective]

class CapacityType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPACITY_TYPE_UNSPECIFIED: _ClassVar[CapacityType]
    CAPACITY_TYPE_SPOT: _ClassVar[CapacityType]
    CAPACITY_TYPE_ON_DEMAND: _ClassVar[CapacityType]
SPOT_POLICY_UNSPECIFIED: SpotPolicy
SPOT_POLICY_AUTO: SpotPolicy
SPOT_POLICY_SPOT: SpotPolicy
SPOT_POLICY_ON_DEMAND: SpotPolicy
PRIORITY_UNSPECIFIED: Priority
PRIORITY_LOW: Priority
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority
OBJECTIVE_UNSPECIFIED: Objective
OBJECTIVE_CHEAPEST: Objective
OBJECTIVE_FASTEST: Objective
OBJECTIVE_CHEAPEST_WITHIN_DEADLINE: Objective
OBJECTIVE_FASTEST_WITHIN_BUDGET: Objective
CAPACITY_TYPE_UNSPECIFIED: CapacityType
CAPACITY_TYPE_SPOT: CapacityType
CAPACITY_TYPE_ON_DEMAND: CapacityType

class JobSpec(_message.Message):
    __slots__ = ("kind", "name", "model", "dataset", "hyperparameters", "resources", "spot_policy", "budget_usd", "deadline", "retry", "checkpoint", "env", "secrets", "objective", "retrain_of", "priority", "exports", "champion", "project")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    SPOT_POLICY_FIELD_NUMBER: _ClassVar[int]
    BUDGET_USD_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    RETRAIN_OF_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    EXPORTS_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    model: ModelRef
    dataset: DatasetRef
    hyperparameters: Hyperparameters
    resources: Resources
    spot_policy: SpotPolicy
    budget_usd: float
    deadline: _timestamp_pb2.Timestamp
    retry: Retry
    checkpoint: CheckpointPolicy
    env: _containers.ScalarMap[str, str]
    secrets: _containers.RepeatedScalarFieldContainer[str]
    objective: Objective
    retrain_of: RetrainOf
    priority: Priority
    exports: _containers.RepeatedScalarFieldContainer[str]
    champion: Champion
    project: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., model: _Optional[_Union[ModelRef, _Mapping]] = ..., dataset: _Optional[_Union[DatasetRef, _Mapping]] = ..., hyperparameters: _Optional[_Union[Hyperparameters, _Mapping]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., spot_policy: _Optional[_Union[SpotPolicy, str]] = ..., budget_usd: _Optional[float] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., retry: _Optional[_Union[Retry, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointPolicy, _Mapping]] = ..., env: _Optional[_Mapping[str, str]] = ..., secrets: _Optional[_Iterable[str]] = ..., objective: _Optional[_Union[Objective, str]] = ..., retrain_of: _Optional[_Union[RetrainOf, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., exports: _Optional[_Iterable[str]] = ..., champion: _Optional[_Union[Champion, _Mapping]] = ..., project: _Optional[str] = ...) -> None: ...

class Champion(_message.Message):
    __slots__ = ("model_id", "version", "job_id", "base_uri", "artifact_uri", "method")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_URI_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_URI_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    version: int
    job_id: str
    base_uri: str
    artifact_uri: str
    method: str
    def __init__(self, model_id: _Optional[str] = ..., version: _Optional[int] = ..., job_id: _Optional[str] = ..., base_uri: _Optional[str] = ..., artifact_uri: _Optional[str] = ..., method: _Optional[str] = ...) -> None: ...

class ModelRef(_message.Message):
    __slots__ = ("model_id", "uri", "config_json", "method", "rank", "alpha", "target_modules", "code_uri", "dora", "rslora")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODULES_FIELD_NUMBER: _ClassVar[int]
    CODE_URI_FIELD_NUMBER: _ClassVar[int]
    DORA_FIELD_NUMBER: _ClassVar[int]
    RSLORA_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    uri: str
    config_json: str
    method: str
    rank: int
    alpha: int
    target_modules: _containers.RepeatedScalarFieldContainer[str]
    code_uri: str
    dora: bool
    rslora: bool
    def __init__(self, model_id: _Optional[str] = ..., uri: _Optional[str] = ..., config_json: _Optional[str] = ..., method: _Optional[str] = ..., rank: _Optional[int] = ..., alpha: _Optional[int] = ..., target_modules: _Optional[_Iterable[str]] = ..., code_uri: _Optional[str] = ..., dora: _Optional[bool] = ..., rslora: _Optional[bool] = ...) -> None: ...

class DatasetRef(_message.Message):
    __slots__ = ("dataset_id", "name", "version", "uri", "format", "rows", "bytes", "sha256", "estimated_tokens", "eval_fraction", "labels")
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EVAL_FRACTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    name: str
    version: int
    uri: str
    format: str
    rows: int
    bytes: int
    sha256: str
    estimated_tokens: int
    eval_fraction: float
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dataset_id: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., uri: _Optional[str] = ..., format: _Optional[str] = ..., rows: _Optional[int] = ..., bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., estimated_tokens: _Optional[int] = ..., eval_fraction: _Optional[float] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class Hyperparameters(_message.Message):
    __slots__ = ("n_epochs", "batch_size", "learning_rate", "sequence_length", "seed", "max_steps", "gradient_checkpointing", "packing", "dpo_beta", "horizontal_flip")
    N_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    PACKING_FIELD_NUMBER: _ClassVar[int]
    DPO_BETA_FIELD_NUMBER: _ClassVar[int]
    HORIZONTAL_FLIP_FIELD_NUMBER: _ClassVar[int]
    n_epochs: float
    batch_size: int
    learning_rate: float
    sequence_length: int
    seed: int
    max_steps: int
    gradient_checkpointing: bool
    packing: bool
    dpo_beta: float
    horizontal_flip: bool
    def __init__(self, n_epochs: _Optional[float] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., sequence_length: _Optional[int] = ..., seed: _Optional[int] = ..., max_steps: _Optional[int] = ..., gradient_checkpointing: _Optional[bool] = ..., packing: _Optional[bool] = ..., dpo_beta: _Optional[float] = ..., horizontal_flip: _Optional[bool] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("accelerators", "cpus", "memory", "regions", "instance_types", "max_price_usd_per_hour", "nodes")
    ACCELERATORS_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_TYPES_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_USD_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    accelerators: str
    cpus: str
    memory: str
    regions: _containers.RepeatedScalarFieldContainer[str]
    instance_types: _containers.RepeatedScalarFieldContainer[str]
    max_price_usd_per_hour: float
    nodes: str
    def __init__(self, accelerators: _Optional[str] = ..., cpus: _Optional[str] = ..., memory: _Optional[str] = ..., regions: _Optional[_Iterable[str]] = ..., instance_types: _Optional[_Iterable[str]] = ..., max_price_usd_per_hour: _Optional[float] = ..., nodes: _Optional[str] = ...) -> None: ...

class Retry(_message.Message):
    __slots__ = ("max_restarts_on_errors", "duration_seconds", "on_events")
    MAX_RESTARTS_ON_ERRORS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ON_EVENTS_FIELD_NUMBER: _ClassVar[int]
    max_restarts_on_errors: int
    duration_seconds: float
    on_events: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, max_restarts_on_errors: _Optional[int] = ..., duration_seconds: _Optional[float] = ..., on_events: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckpointPolicy(_message.Message):
    __slots__ = ("interval_steps", "keep", "disabled")
    INTERVAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    interval_steps: int
    keep: int
    disabled: bool
    def __init__(self, interval_steps: _Optional[int] = ..., keep: _Optional[int] = ..., disabled: _Optional[bool] = ...) -> None: ...

class RetrainOf(_message.Message):
    __slots__ = ("endpoint_id", "model_id", "version", "retrain_id", "data", "data_detail")
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RETRAIN_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DATA_DETAIL_FIELD_NUMBER: _ClassVar[int]
    endpoint_id: str
    model_id: str
    version: int
    retrain_id: str
    data: str
    data_detail: str
    def __init__(self, endpoint_id: _Optional[str] = ..., model_id: _Optional[str] = ..., version: _Optional[int] = ..., retrain_id: _Optional[str] = ..., data: _Optional[str] = ..., data_detail: _Optional[str] = ...) -> None: ...

class DatasetLineage(_message.Message):
    __slots__ = ("parent_dataset_id", "parent_version", "endpoint_id", "retrain_id", "since", "until", "corrections", "liked", "inputs", "duplicates", "too_long", "over_limit", "redacted")
    PARENT_DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    RETRAIN_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    LIKED_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    TOO_LONG_FIELD_NUMBER: _ClassVar[int]
    OVER_LIMIT_FIELD_NUMBER: _ClassVar[int]
    REDACTED_FIELD_NUMBER: _ClassVar[int]
    parent_dataset_id: str
    parent_version: int
    endpoint_id: str
    retrain_id: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    corrections: int
    liked: int
    inputs: int
    duplicates: int
    too_long: int
    over_limit: int
    redacted: int
    def __init__(self, parent_dataset_id: _Optional[str] = ..., parent_version: _Optional[int] = ..., endpoint_id: _Optional[str] = ..., retrain_id: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., corrections: _Optional[int] = ..., liked: _Optional[int] = ..., inputs: _Optional[int] = ..., duplicates: _Optional[int] = ..., too_long: _Optional[int] = ..., over_limit: _Optional[int] = ..., redacted: _Optional[int] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("cloud", "region", "zone", "instance_type", "capacity_type", "accelerator_name", "accelerator_count", "vcpus", "memory_gib", "price_usd_per_hour", "on_demand_price_usd_per_hour")
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_NAME_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GIB_FIELD_NUMBER: _ClassVar[int]
    PRICE_USD_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_PRICE_USD_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    cloud: str
    region: str
    zone: str
    instance_type: str
    capacity_type: CapacityType
    accelerator_name: str
    accelerator_count: int
    vcpus: int
    memory_gib: float
    price_usd_per_hour: float
    on_demand_price_usd_per_hour: float
    def __init__(self, cloud: _Optional[str] = ..., region: _Optional[str] = ..., zone: _Optional[str] = ..., instance_type: _Optional[str] = ..., capacity_type: _Optional[_Union[CapacityType, str]] = ..., accelerator_name: _Optional[str] = ..., accelerator_count: _Optional[int] = ..., vcpus: _Optional[int] = ..., memory_gib: _Optional[float] = ..., price_usd_per_hour: _Optional[float] = ..., on_demand_price_usd_per_hour: _Optional[float] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("expected", "low", "high")
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    expected: float
    low: float
    high: float
    def __init__(self, expected: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class WorkProfile(_message.Message):
    __slots__ = ("parameters", "trainable_parameters", "flops_per_token", "weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes", "peak_bytes", "total_steps", "batch_size", "sequence_length", "total_tokens", "steps_left", "learning_rate", "largest_memory_term", "packed_sequences")
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    FLOPS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STEPS_LEFT_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    LARGEST_MEMORY_TERM_FIELD_NUMBER: _ClassVar[int]
    PACKED_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    parameters: int
    trainable_parameters: int
    flops_per_token: float
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    peak_bytes: int
    total_steps: int
    batch_size: int
    sequence_length: int
    total_tokens: int
    steps_left: int
    learning_rate: float
    largest_memory_term: str
    packed_sequences: int
    def __init__(self, parameters: _Optional[int] = ..., trainable_parameters: _Optional[int] = ..., flops_per_token: _Optional[float] = ..., weight_bytes: _Optional[int] = ..., gradient_bytes: _Optional[int] = ..., optimizer_bytes: _Optional[int] = ..., activation_bytes: _Optional[int] = ..., peak_bytes: _Optional[int] = ..., total_steps: _Optional[int] = ..., batch_size: _Optional[int] = ..., sequence_length: _Optional[int] = ..., total_tokens: _Optional[int] = ..., steps_left: _Optional[int] = ..., learning_rate: _Optional[float] = ..., largest_memory_term: _Optional[str] = ..., packed_sequences: _Optional[int] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("placement", "step_seconds", "hours", "total_usd", "expected_interruptions", "micro_batch_size", "bound_by", "machine_count", "workers", "price_as_of", "price_stale", "seconds", "usd", "checkpoint_interval_steps", "gradient_checkpointing", "peak_bytes", "usable_bytes", "largest_memory_term", "on_pareto_front", "on_demand_total_usd", "interruptions_per_hour", "shard")
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HOURS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_USD_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_INTERRUPTIONS_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    BOUND_BY_FIELD_NUMBER: _ClassVar[int]
    MACHINE_COUNT_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    PRICE_AS_OF_FIELD_NUMBER: _ClassVar[int]
    PRICE_STALE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    USD_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_INTERVAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    USABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LARGEST_MEMORY_TERM_FIELD_NUMBER: _ClassVar[int]
    ON_PARETO_FRONT_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_TOTAL_USD_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTIONS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    placement: Placement
    step_seconds: Estimate
    hours: Estimate
    total_usd: Estimate
    expected_interruptions: float
    micro_batch_size: int
    bound_by: str
    machine_count: int
    workers: int
    price_as_of: _timestamp_pb2.Timestamp
    price_stale: bool
    seconds: TimeBreakdown
    usd: CostBreakdown
    checkpoint_interval_steps: int
    gradient_checkpointing: bool
    peak_bytes: int
    usable_bytes: int
    largest_memory_term: str
    on_pareto_front: bool
    on_demand_total_usd: float
    interruptions_per_hour: float
    shard: bool
    def __init__(self, placement: _Optional[_Union[Placement, _Mapping]] = ..., step_seconds: _Optional[_Union[Estimate, _Mapping]] = ..., hours: _Optional[_Union[Estimate, _Mapping]] = ..., total_usd: _Optional[_Union[Estimate, _Mapping]] = ..., expected_interruptions: _Optional[float] = ..., micro_batch_size: _Optional[int] = ..., bound_by: _Optional[str] = ..., machine_count: _Optional[int] = ..., workers: _Optional[int] = ..., price_as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., price_stale: _Optional[bool] = ..., seconds: _Optional[_Union[TimeBreakdown, _Mapping]] = ..., usd: _Optional[_Union[CostBreakdown, _Mapping]] = ..., checkpoint_interval_steps: _Optional[int] = ..., gradient_checkpointing: _Optional[bool] = ..., peak_bytes: _Optional[int] = ..., usable_bytes: _Optional[int] = ..., largest_memory_term: _Optional[str] = ..., on_pareto_front: _Optional[bool] = ..., on_demand_total_usd: _Optional[float] = ..., interruptions_per_hour: _Optional[float] = ..., shard: _Optional[bool] = ...) -> None: ...

class TimeBreakdown(_message.Message):
    __slots__ = ("startup", "training", "checkpoint_stall", "interruptions", "finish", "waiting")
    STARTUP_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STALL_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTIONS_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    startup: float
    training: float
    checkpoint_stall: float
    interruptions: float
    finish: float
    waiting: float
    def __init__(self, startup: _Optional[float] = ..., training: _Optional[float] = ..., checkpoint_stall: _Optional[float] = ..., interruptions: _Optional[float] = ..., finish: _Optional[float] = ..., waiting: _Optional[float] = ...) -> None: ...

class CostBreakdown(_message.Message):
    __slots__ = ("compute", "on_demand_fallback", "storage", "egress")
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    compute: float
    on_demand_fallback: float
    storage: float
    egress: float
    def __init__(self, compute: _Optional[float] = ..., on_demand_fallback: _Optional[float] = ..., storage: _Optional[float] = ..., egress: _Optional[float] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("placement", "reason", "detail")
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    placement: Placement
    reason: str
    detail: str
    def __init__(self, placement: _Optional[_Union[Placement, _Mapping]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class EndpointSpec(_message.Message):
    __slots__ = ("name", "model", "requests_per_day", "input_tokens_per_request", "output_tokens_per_request", "peak_to_mean", "tokens_per_second", "p95_latency_seconds", "budget_usd_per_month", "resources", "base_is_running")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PEAK_TO_MEAN_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    P95_LATENCY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_USD_PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    BASE_IS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: ModelRef
    requests_per_day: float
    input_tokens_per_request: float
    output_tokens_per_request: float
    peak_to_mean: float
    tokens_per_second: float
    p95_latency_seconds: float
    budget_usd_per_month: float
    resources: Resources
    base_is_running: bool
    def __init__(self, name: _Optional[str] = ..., model: _Optional[_Union[ModelRef, _Mapping]] = ..., requests_per_day: _Optional[float] = ..., input_tokens_per_request: _Optional[float] = ..., output_tokens_per_request: _Optional[float] = ..., peak_to_mean: _Optional[float] = ..., tokens_per_second: _Optional[float] = ..., p95_latency_seconds: _Optional[float] = ..., budget_usd_per_month: _Optional[float] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., base_is_running: _Optional[bool] = ...) -> None: ...

class EndpointOption(_message.Message):
    __slots__ = ("kind", "placement", "replicas", "on_demand_floor", "usd_per_month", "usd_per_million_tokens", "tokens_per_second", "p95_latency_seconds", "cold_start_seconds", "cold_fraction", "utilisation", "meets", "detail", "break_even_requests_per_day", "alternatives")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_FLOOR_FIELD_NUMBER: _ClassVar[int]
    USD_PER_MONTH_FIELD_NUMBER: _ClassVar[int]
    USD_PER_MILLION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    P95_LATENCY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    COLD_START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    COLD_FRACTION_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FIELD_NUMBER: _ClassVar[int]
    MEETS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BREAK_EVEN_REQUESTS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    placement: Placement
    replicas: int
    on_demand_floor: int
    usd_per_month: float
    usd_per_million_tokens: float
    tokens_per_second: float
    p95_latency_seconds: float
    cold_start_seconds: float
    cold_fraction: float
    utilisation: float
    meets: bool
    detail: str
    break_even_requests_per_day: float
    alternatives: _containers.RepeatedCompositeFieldContainer[Placement]
    def __init__(self, kind: _Optional[str] = ..., placement: _Optional[_Union[Placement, _Mapping]] = ..., replicas: _Optional[int] = ..., on_demand_floor: _Optional[int] = ..., usd_per_month: _Optional[float] = ..., usd_per_million_tokens: _Optional[float] = ..., tokens_per_second: _Optional[float] = ..., p95_latency_seconds: _Optional[float] = ..., cold_start_seconds: _Optional[float] = ..., cold_fraction: _Optional[float] = ..., utilisation: _Optional[float] = ..., meets: _Optional[bool] = ..., detail: _Optional[str] = ..., break_even_requests_per_day: _Optional[float] = ..., alternatives: _Optional[_Iterable[_Union[Placement, _Mapping]]] = ...) -> None: ...

class ReplicaCount(_message.Message):
    __slots__ = ("minimum", "maximum", "on_demand", "tokens_per_second")
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    minimum: int
    maximum: int
    on_demand: int
    tokens_per_second: float
    def __init__(self, minimum: _Optional[int] = ..., maximum: _Optional[int] = ..., on_demand: _Optional[int] = ..., tokens_per_second: _Optional[float] = ...) -> None: ...
