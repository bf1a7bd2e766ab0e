"""Version 1 of the event contract, generated from `proto/` by `make proto`: every message and enum under one name.

>>> from sskai.events import v1 as events
>>> events.JobRequeued(job_id="job_1", reason="spot-interrupted")
"""

from sskai.events.v1.attempts_pb2 import *  # noqa: F403
from sskai.events.v1.common_pb2 import *  # noqa: F403
from sskai.events.v1.costs_pb2 import *  # noqa: F403
from sskai.events.v1.datasets_pb2 import *  # noqa: F403
from sskai.events.v1.endpoints_pb2 import *  # noqa: F403
from sskai.events.v1.inferences_pb2 import *  # noqa: F403
from sskai.events.v1.jobs_pb2 import *  # noqa: F403
from sskai.events.v1.machines_pb2 import *  # noqa: F403
from sskai.events.v1.models_pb2 import *  # noqa: F403
from sskai.events.v1.monitoring_pb2 import *  # noqa: F403
from sskai.events.v1.plans_pb2 import *  # noqa: F403
