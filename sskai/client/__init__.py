"""The Python client: everything the HTTP API offers, typed, and deaf to restarts of the gateway.

>>> from sskai.client import Client
>>> sskai = Client("http://127.0.0.1:8000", "sskai_...")
>>> sskai.datasets.upload("support.jsonl", name="support")
>>> job = sskai.jobs.create({"name": "bot", "model": {"base": "smollm2-135m-instruct"}, "dataset": {"uri": "support"}})
>>> sskai.jobs.wait(job["id"])["state"]
'succeeded'

`AsyncClient` is the same with `await`. What goes wrong in between (no connection, 429, 502, 503, 504) is tried again
with growing pauses for up to a minute; a POST carries an Idempotency-Key of its own, so trying it again makes nothing
twice. What is wrong with a request raises SskaiError with the gateway's problem document.

The resources are written once, in `_async`; `_sync` is made of it by `python -m tools.sync_client`
(docs/decisions/0024-one-client-written-once.md).
"""

from sskai.client._async.client import AsyncClient
from sskai.client._sync.client import Client
from sskai.client.documents import Document, Documents
from sskai.client.errors import SskaiError, UnreachableError
from sskai.client.wire import JOB_ENDS, Event, LogLine, Progress

__all__ = [
    "JOB_ENDS",
    "AsyncClient",
    "Client",
    "Document",
    "Documents",
    "Event",
    "LogLine",
    "Progress",
    "SskaiError",
    "UnreachableError",
]
