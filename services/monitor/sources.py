"""Where the cloud's messages come from: the simulated cloud's feed, and SQS queues that EventBridge sends to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import boto3
import httpx2
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sskai import failpoints

MESSAGES_PER_CALL = 10  # SQS's limit for receiving, deleting and holding
LONGEST_WAIT_SECONDS = 20  # SQS's limit for long polling
# A message that was received stays hidden for so long. While it is being handled that is renewed (`Queue.hold`), so a
# monitor that dies in the middle gives its messages back this soon.
HIDDEN_SECONDS = 30
ANSWER_SECONDS = 5
# What a refusal means for the operator; https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/.
WHAT_TO_DO = {
    "AccessDenied": "allow the monitor's role what docs/operations.md lists under Interruptions",
    "AWS.SimpleQueueService.NonExistentQueue": "SSKAI_INTERRUPTION_QUEUE_URL names no queue of this account and region",
    "QueueDoesNotExist": "SSKAI_INTERRUPTION_QUEUE_URL names no queue of this account and region",
}


class SourceAwayError(ConnectionError):
    """A source does not answer, or refuses: the message says what to do. Nothing was lost; ask again later."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A message as it came. `notice_seconds` is the time the machine has left, where the source says it."""

    body: Any  # text of JSON, or what it stands for
    notice_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A message of a queue, the handle to delete it by, and how often it was given out."""

    handle: str
    raw: Raw
    times: int


@failpoints.boundary("cloud", SourceAwayError)
class LocalCloud:
    """The simulated cloud's feed: GET /interruptions?after=SEQUENCE. Every machine there is ours."""

    source = name = "local"

    def __init__(self, url: str, token: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx2.AsyncClient(base_url=url, headers=headers, timeout=5, transport=transport)

    async def after(self, sequence: int) -> list[tuple[int, Raw]]:
        """Messages after a sequence number, in order. Raises SourceAwayError while the cloud is away."""
        try:
            response = await self._client.get("/interruptions", params={"after": sequence})
            response.raise_for_status()
            messages = response.json()["messages"]
            return [(index(item["sequence"]), Raw(item["body"], item.get("notice_seconds"))) for item in messages]
        except (httpx2.HTTPError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise SourceAwayError(f"the local cloud does not answer: {error!r}") from error


@failpoints.boundary("queue", SourceAwayError)
class Queue:
    """An SQS queue that EventBridge sends to. A message that is not deleted comes back after HIDDEN_SECONDS.

    Every call blocks and raises SourceAwayError. `name` is the queue's URL without its scheme.
    """

    source = "eventbridge"

    def __init__(self, url: str, **client_options: Any) -> None:
        self.name = url.partition("://")[2] or url
        self._url = url
        region = re.match(r"(?:sqs\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.(?:queue\.)?amazonaws\.com", self.name)
        if region and "region_name" not in client_options:
            client_options["region_name"] = region[1]
        config = Config(
            connect_timeout=3,
            read_timeout=LONGEST_WAIT_SECONDS + ANSWER_SECONDS,
            retries={"max_attempts": 2, "mode": "standard"},
            user_agent_extra="sskai",
        )
        self._sqs: Any = boto3.client("sqs", config=config, **client_options)

    def receive(self, wait_seconds: int = 2) -> list[Received]:
        """Up to 10 messages. Waits for the first one in SQS, not here."""
        answer = self._ask(
            "receive_message",
            MaxNumberOfMessages=MESSAGES_PER_CALL,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=HIDDEN_SECONDS,
            AttributeNames=["ApproximateReceiveCount"],
        )
        return [
            Received(
                message["ReceiptHandle"],
                Raw(message["Body"]),
                int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for message in answer.get("Messages", [])
        ]

    def delete(self, handles: Sequence[str]) -> int:
        """Delete up to 10 messages; how many SQS did not. Those come again, and are known then."""
        entries = [{"Id": str(place), "ReceiptHandle": handle} for place, handle in enumerate(handles)]
        return len(self._ask("delete_message_batch", Entries=entries).get("Failed", []))

    def hold(self, handles: Sequence[str]) -> None:
        """Keep up to 10 messages hidden for HIDDEN_SECONDS from now on."""
        entries = [
            {"Id": str(place), "ReceiptHandle": handle, "VisibilityTimeout": HIDDEN_SECONDS}
            for place, handle in enumerate(handles)
        ]
        self._ask("change_message_visibility_batch", Entries=entries)

    def _ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._sqs, method)(QueueUrl=self._url, **arguments)
            return answer
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            advice = WHAT_TO_DO.get(code) or WHAT_TO_DO.get(code.removesuffix("Exception"), "")
            raise SourceAwayError(f"{self.name}: {error}" + (f"; {advice}" if advice else "")) from error
        except (BotoCoreError, OSError) as error:
            raise SourceAwayError(f"{self.name} does not answer: {error}") from error
