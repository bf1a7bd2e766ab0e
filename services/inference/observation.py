"""What is seen of one request: a span by OpenTelemetry's GenAI conventions, metrics, and perhaps a sample."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from services.inference import domain, metrics
from services.inference.domain import Endpoint
from services.inference.drawings import Drawing
from services.inference.engine import Piece, Sampling
from services.inference.samples import Samples
from services.inference.tally import Tally
from services.inference.traffic import Asker
from sskai import telemetry
from sskai.contract import timestamp
from sskai.events import v1 as events
from sskai.redaction import redacted

TRAINED_IN = "trained-in"  # the link from a request to the trace of the training that made its model version


class Observation:
    """From the request's arrival to the end of its answer. `operation`: "chat", "text_completion", "embeddings",
    "infer" or "image_generation"."""

    def __init__(
        self,
        inference_id: str,
        samples: Samples,
        *,
        operation: str,
        tenant_id: str,
        model: str,
        traceparent: str | None,
        asker: Asker,
        tally: Tally,
    ) -> None:
        self.inference_id = inference_id
        self.asker = asker
        self._tally = tally
        self._samples = samples
        self._operation = operation
        self._started = time.perf_counter()
        self._first_token_seconds: float | None = None
        self._last: dict[int, Piece] = {}  # by choice
        self._endpoint: Endpoint | None = None
        self._input_tokens = 0
        self._input_text = ""
        self._output: list[str] = []  # of the first choice
        self._ended = False
        self._span = telemetry.tracer().start_span(
            f"{operation} {model}",
            context=telemetry.context_from(traceparent),
            kind=SpanKind.SERVER,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": "sskai",
                "gen_ai.request.model": model,
                "sskai.tenant": tenant_id,
            },
        )

    def begin(self, endpoint: Endpoint, input_text: str, input_tokens: int, sampling: Sampling | None = None) -> None:
        """The request was accepted and is with the engine."""
        self._endpoint, self._input_text, self._input_tokens = endpoint, input_text, input_tokens
        self._span.set_attributes(
            {
                "gen_ai.response.model": endpoint.name,
                "gen_ai.usage.input_tokens": input_tokens,
                "sskai.endpoint": endpoint.told_as,
                "sskai.model": endpoint.model_id,
                "sskai.model.version": endpoint.version,
            }
        )
        if endpoint.made_by:
            self._span.set_attribute("sskai.job", endpoint.made_by)
        for link in telemetry.link_to(endpoint.made_in, TRAINED_IN):
            self._span.add_link(link.context, link.attributes)
        if sampling is None:
            return
        self._span.set_attributes(
            {
                "gen_ai.request.max_tokens": sampling.max_tokens,
                "gen_ai.request.temperature": sampling.temperature,
                "gen_ai.request.top_p": sampling.top_p,
            }
        )
        if sampling.seed is not None:
            self._span.set_attribute("gen_ai.request.seed", sampling.seed)

    def active(self) -> AbstractContextManager[Any]:
        """What is begun in here, a replica's part above all, belongs below this request."""
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def piece(self, piece: Piece, choice: int = 0) -> None:
        """A part of one of the answers came."""
        if self._first_token_seconds is None:
            self._first_token_seconds = time.perf_counter() - self._started
            self._span.add_event("first token")
            self._span.set_attribute("gen_ai.server.time_to_first_token", self._first_token_seconds)
            if labels := self._labels:
                metrics.FIRST_TOKEN_SECONDS.labels(**labels).observe(self._first_token_seconds)
        self._last[choice] = piece
        if choice == 0:
            self._output.append(piece.text)

    def drew(self, drawing: Drawing, pieces: Sequence[Piece]) -> None:
        """All pictures came, each a piece. They have no tokens, and nothing of them is sampled."""
        self._span.set_attributes(
            {
                "gen_ai.output.type": "image",
                "gen_ai.request.choice.count": len(pieces),
                "gen_ai.request.seed": drawing.seed,
                "sskai.image.width": drawing.width,
                "sskai.image.height": drawing.height,
                "sskai.image.steps": drawing.steps,
                "sskai.queue_seconds": pieces[0].work.queue_seconds,
            }
        )
        labels = self._labels
        metrics.QUEUE_SECONDS.labels(**labels).observe(pieces[0].work.queue_seconds)
        metrics.IMAGES.labels(**labels).inc(len(pieces))
        for piece in pieces:
            if piece.picture is not None:
                metrics.IMAGE_SECONDS.labels(**labels).observe(piece.picture.seconds)

    @property
    def _labels(self) -> dict[str, str]:
        one = self._endpoint
        if one is None:
            return {}
        return {"endpoint": one.endpoint_id, "model": one.model_id, "version": str(one.version)}

    @property
    def text(self) -> str:
        """The first choice so far."""
        return "".join(self._output)

    def end(self, outcome: str) -> None:
        """`outcome`: "answered", "disconnected" or an error's code. The first call counts."""
        if self._ended:
            return
        self._ended = True
        seconds = time.perf_counter() - self._started
        output_tokens = sum(piece.output_tokens for piece in self._last.values())
        metrics.REQUESTS.labels(operation=self._operation, outcome=outcome).inc()
        metrics.SECONDS.labels(operation=self._operation).observe(seconds)
        metrics.TOKENS.labels(direction="input").inc(self._input_tokens)
        metrics.TOKENS.labels(direction="output").inc(output_tokens)
        if self._endpoint is not None:
            self._tally.count_tokens(self._endpoint, self._input_tokens, output_tokens)
        longest = max((piece.output_tokens for piece in self._last.values()), default=0)
        if longest > 1 and self._first_token_seconds is not None:
            per_token = (seconds - self._first_token_seconds) / (longest - 1)
            self._span.set_attribute("gen_ai.server.time_per_output_token", per_token)
            metrics.OUTPUT_TOKEN_SECONDS.labels(**self._labels).observe(per_token)
        self._span.set_attribute("gen_ai.usage.output_tokens", output_tokens)
        self._work()
        reasons = [piece.finish_reason for _, piece in sorted(self._last.items()) if piece.finish_reason]
        if reasons:
            self._span.set_attribute("gen_ai.response.finish_reasons", reasons)
        if outcome not in ("answered", "disconnected"):
            self._span.set_attribute("error.type", outcome)
            self._span.set_status(Status(StatusCode.ERROR, outcome))
        self._span.set_attribute("gen_ai.response.id", self.inference_id)
        if self._endpoint is not None and outcome != "disconnected":
            self._tally.add(self._endpoint, self.inference_id, seconds, answered=outcome == "answered", shadow=False)
        if outcome != "disconnected":
            self._sample(seconds, error="" if outcome == "answered" else outcome)
        self._span.end()

    def _work(self) -> None:
        """What the engine tells of its part: of the choice that came first, which stands for all of them."""
        ended = [piece.work for _, piece in sorted(self._last.items()) if piece.finish_reason]
        if not ended or not self._labels:
            return
        work = ended[0]
        self._span.set_attributes(
            {
                "gen_ai.usage.cache_read.input_tokens": work.cached_tokens,
                "sskai.queue_seconds": work.queue_seconds,
                "sskai.batch_size": work.batch_size,
            }
        )
        metrics.QUEUE_SECONDS.labels(**self._labels).observe(work.queue_seconds)
        metrics.BATCH_SIZE.labels(**self._labels).observe(work.batch_size)
        metrics.PROMPT_TOKENS.labels(**self._labels, cache="hit").inc(work.cached_tokens)
        metrics.PROMPT_TOKENS.labels(**self._labels, cache="miss").inc(self._input_tokens - work.cached_tokens)

    def _sample(self, seconds: float, error: str) -> None:
        """Tell of the request if it is drawn. Failures are drawn as answers are: their share is a figure of health."""
        endpoint, last = self._endpoint, self._last.get(0)
        if endpoint is None or not self.asker.sampled or (last is None and not error):
            return
        if not domain.is_sampled(endpoint.sample_rate, random.random()):
            return
        sample = events.InferenceSampled(
            endpoint_id=endpoint.told_as,
            tenant_id=endpoint.tenant_id,
            inference_id=self.inference_id,
            model_id=endpoint.model_id,
            version=endpoint.version,
            input_text=redacted(self._input_text),
            output_text=redacted(self.text),
            input_tokens=self._input_tokens,
            output_tokens=last.output_tokens if last else 0,
            duration_seconds=seconds,
            time_to_first_token_seconds=self._first_token_seconds or seconds,
            finish_reason=(last.finish_reason or "") if last else "",
            mean_logprob=last.mean_logprob if last else 0.0,
            at=timestamp(datetime.now(UTC)),
            error=error,
        )
        self._samples.add(sample, trace.set_span_in_context(self._span))
