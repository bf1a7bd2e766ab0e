"""A queue that the cloud sends to."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import boto3

from services.monitor.sources import Queue


class Mailbox:
    """A queue of moto's, and what a test does to it."""

    def __init__(self, aws: dict[str, str]) -> None:
        self.sqs: Any = boto3.client("sqs", **aws)  # type: ignore[call-overload]
        self.url = self.sqs.create_queue(
            QueueName=f"interruptions-{datetime.now(UTC).timestamp():.6f}".replace(".", "-")
        )["QueueUrl"]
        self.queue = Queue(self.url, **aws)

    def send(self, *bodies: Any) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body if isinstance(body, str) else json.dumps(body))

    async def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await asyncio.to_thread(self.sqs.get_queue_attributes, QueueUrl=self.url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)
