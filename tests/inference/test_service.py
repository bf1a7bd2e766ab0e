"""The service as a process: events in, the official `openai` client against it, events out."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Literal

import httpx2
import openai
import pytest
from pydantic import BaseModel, Field

from sskai.events import v1 as events
from sskai.testing import wait_for
from tests.inference.artefacts import Published
from tests.inference.process import TENANT, TOKEN, InferenceProcess

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: dict[str, Any] = {"messages": QUESTION, "temperature": 0, "max_tokens": 16}


async def say(service: InferenceProcess, model: str, **changes: Any) -> str:
    answer = await service.client().chat.completions.create(model=model, **{**GREEDY, **changes})
    content = answer.choices[0].message.content
    assert content is not None
    return str(content)


async def idle(service: InferenceProcess) -> None:
    async def nobody() -> bool:
        active = await service.metric("sskai_inference_active_sequences")
        return active + await service.metric("sskai_inference_waiting_sequences") == 0

    await wait_for(nobody, limit_seconds=20)


async def busy(service: InferenceProcess) -> None:
    async def somebody() -> bool:
        return await service.metric("sskai_inference_active_sequences") > 0

    await wait_for(somebody)


async def heard(service: InferenceProcess, kind: type[Any], endpoint_id: str) -> list[Any]:
    """What the service tells of an endpoint, as soon as there is something."""
    told: list[Any] = []

    async def something() -> bool:
        told[:] = await service.told(kind, endpoint_id)
        return bool(told)

    await wait_for(something)
    return told


async def test_a_chat(service: InferenceProcess) -> None:
    answer = await service.client().chat.completions.create(model="cats", **GREEDY)
    assert answer.model == "cats"
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16


async def test_a_stream_is_the_same_answer_and_tells_its_usage(service: InferenceProcess) -> None:
    stream = await service.client().chat.completions.create(
        model="cats", stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == await say(service, "cats")
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]].count("length") == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 16
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_stream_ends_as_openai_ends_it(service: InferenceProcess) -> None:
    async with httpx2.AsyncClient(timeout=20) as client:
        answer = await client.post(
            f"{service.url}/v1/chat/completions", headers=headers(), json={"model": "base", "stream": True, **GREEDY}
        )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert all(line.startswith("data: ") for line in answer.text.split("\n\n") if line)


async def test_a_completion(service: InferenceProcess) -> None:
    client = service.client()
    answer = await client.completions.create(model="base", prompt="Hello, how", temperature=0, max_tokens=8)
    stream = await client.completions.create(
        model="base", prompt="Hello, how", temperature=0, max_tokens=8, stream=True
    )
    assert answer.object == "text_completion"
    assert "".join([chunk.choices[0].text async for chunk in stream]) == answer.choices[0].text
    short = await client.completions.create(model="base", prompt="Hello, how", temperature=0)
    assert short.usage is not None
    assert short.usage.completion_tokens == 16


async def test_base_and_adapters_answer_differently_and_the_same_alone_and_together(service: InferenceProcess) -> None:
    names = ["base", "cats", "dogs"]
    alone = {name: await say(service, name) for name in names}
    assert len(set(alone.values())) == 3
    together = await asyncio.gather(*(say(service, name) for name in names for _ in range(2)))
    assert together == [alone[name] for name in names for _ in range(2)]


async def test_a_seed_is_reproducible_and_a_stop_text_ends_the_answer(service: InferenceProcess) -> None:
    warm = {"temperature": 1.0, "seed": 11, "max_tokens": 24}
    said = await say(service, "dogs", **warm)
    assert await say(service, "dogs", **warm) == said
    assert await say(service, "dogs", **{**warm, "seed": 12}) != said
    stop = said[4:6]
    assert await say(service, "dogs", **warm, stop=[stop, "never said"]) == said[: said.index(stop)]


async def test_several_choices_whole_and_as_a_stream(service: InferenceProcess) -> None:
    asked: dict[str, Any] = {"model": "cats", "messages": QUESTION, "n": 3, "seed": 4, "max_tokens": 8}
    whole = await service.client().chat.completions.create(**asked)
    said = [choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len(set(said)) == 3
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 24
    texts = ["", "", ""]
    async for chunk in await service.client().chat.completions.create(**asked, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == said


async def test_a_prompt_that_was_asked_before_is_counted_as_cached(service: InferenceProcess) -> None:
    messages: list[Any] = [{"role": "user", "content": "The store opens at nine in the morning and closes at eight."}]
    await say(service, "cats", messages=messages)
    answer = await service.client().chat.completions.create(model="cats", messages=messages, max_tokens=1)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == answer.usage.prompt_tokens - 1


class Trip(BaseModel):
    city: Literal["Paris", "Madrid"]
    days: int = Field(ge=1, le=9)


async def test_the_openai_client_parses_what_a_schema_asked_for(service: InferenceProcess) -> None:
    answer = await service.client().chat.completions.parse(
        model="cats", messages=QUESTION, response_format=Trip, temperature=0, max_tokens=64
    )
    trip = answer.choices[0].message.parsed
    assert trip is not None
    assert 1 <= trip.days <= 9


async def test_logprobs_by_openais_shapes(service: InferenceProcess) -> None:
    asked: dict[str, Any] = {"model": "base", "temperature": 0, "max_tokens": 5}
    chat = await service.client().chat.completions.create(messages=QUESTION, logprobs=True, top_logprobs=2, **asked)
    told = chat.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert "".join(one.token for one in told.content) == chat.choices[0].message.content
    assert all(one.top_logprobs[0].logprob == one.logprob and len(one.top_logprobs) == 2 for one in told.content)
    stream = await service.client().chat.completions.create(messages=QUESTION, logprobs=True, stream=True, **asked)
    parts = [chunk.choices[0].logprobs async for chunk in stream]
    tokens = [one.token for part in parts if part is not None for one in part.content or []]
    assert tokens == [one.token for one in told.content]
    text = await service.client().completions.create(prompt="Hello, how", logprobs=1, **asked)
    found = text.choices[0].logprobs
    assert found is not None
    assert found.tokens is not None
    assert found.text_offset is not None
    assert "".join(found.tokens) == text.choices[0].text
    assert found.text_offset[0] == 0


async def test_embeddings_are_of_length_one_and_the_same_in_both_encodings(service: InferenceProcess) -> None:
    client, texts = service.client(), ["Where is my order?", "Goodbye!"]
    packed = await client.embeddings.create(model="base", input=texts)  # the client asks for base64 by itself
    plain = await client.embeddings.create(model="base", input=texts, encoding_format="float")
    short = await client.embeddings.create(model="base", input=texts[0], dimensions=16)
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-5)
    assert len(short.data[0].embedding) == 16
    assert packed.usage.total_tokens > 2
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        await client.embeddings.create(model="base", input="x", dimensions=10_000)
    with pytest.raises(openai.BadRequestError, match="1 to"):
        await client.embeddings.create(model="base", input="")


async def test_a_language_model_is_no_classifier(service: InferenceProcess) -> None:
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}
    async with httpx2.AsyncClient(timeout=10) as client:
        answer = await client.post(f"{service.url}/v2/models/base/infer", headers=headers(), json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_a_classifier")
    assert (await service.get("/v2/models/base/ready")).json() == {"name": "base", "ready": True}


async def test_models_name_their_parents(service: InferenceProcess) -> None:
    client = service.client()
    models = {model.id: model.model_dump() async for model in client.models.list()}
    assert {"base", "cats", "dogs"} <= set(models)
    assert models["base"]["parent"] is None
    assert (models["cats"]["root"], models["cats"]["parent"]) == ("model_cats@1", "tiny")
    assert (await client.models.retrieve("dogs")).id == "dogs"


async def test_a_tenant_sees_only_its_own(service: InferenceProcess) -> None:
    stranger = service.client("tenant_b")
    assert [model.id async for model in stranger.models.list()] == []
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await stranger.chat.completions.create(model="cats", **GREEDY)
    with pytest.raises(openai.NotFoundError):
        await stranger.models.retrieve("cats")


def headers(**changes: str) -> dict[str, str]:
    return {"X-SSKAI-Tenant": TENANT, "X-SSKAI-Internal": TOKEN, **changes}


@pytest.mark.parametrize(
    "sent",
    [{}, {"X-SSKAI-Tenant": TENANT}, headers(**{"X-SSKAI-Internal": "guess"}), {"X-SSKAI-Internal": TOKEN}],
)
async def test_only_the_gateway_may_ask(service: InferenceProcess, sent: dict[str, str]) -> None:
    async with httpx2.AsyncClient(timeout=10) as client:
        for answer in (
            await client.get(f"{service.url}/v1/models", headers=sent),
            await client.post(f"{service.url}/v1/chat/completions", headers=sent, json={"model": "base", **GREEDY}),
        ):
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "absent"}, 404, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role"),
        ({"temperature": 3}, 400, "temperature"),
        ({"temperature": "1"}, 400, "temperature"),
        ({"top_p": -0.1}, 400, "top_p"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 100_000}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "word " * 600}]}, 400, "messages"),
        ({"n": 9}, 400, "n"),
        ({"presence_penalty": 2.5}, 400, "presence_penalty"),
        ({"logit_bias": {"word": 1}}, 400, "logit_bias.word.[key]"),
        ({"response_format": {"type": "xml"}}, 400, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, 400, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "what"}}}},
            400,
            "response_format",
        ),
        ({"tools": [{"type": "function"}]}, 400, "tools"),
        ({"top_k": 5}, 400, "top_k"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop"),
    ],
)
async def test_errors_have_openais_shape_and_name_the_field(
    service: InferenceProcess, body: dict[str, Any], status: int, param: str
) -> None:
    async with httpx2.AsyncClient(timeout=20) as client:
        answer = await client.post(
            f"{service.url}/v1/chat/completions", headers=headers(), json={"model": "base", **GREEDY, **body}
        )
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["param"].startswith(param)


async def test_what_only_labels_a_request_is_taken_and_ignored(service: InferenceProcess) -> None:
    plain = await say(service, "base")
    parts: list[Any] = [{"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}]}]
    labelled = await say(
        service, "base", messages=parts, user="u", metadata={"a": "b"}, n=1, presence_penalty=0.0, logprobs=False
    )
    assert labelled == plain


async def test_a_body_that_is_not_json(service: InferenceProcess) -> None:
    async with httpx2.AsyncClient(timeout=10) as client:
        broken = await client.post(f"{service.url}/v1/chat/completions", headers=headers(), content=b"{")
        huge = await client.post(f"{service.url}/v1/chat/completions", headers=headers(), content=b" " * 9_000_000)
        lost = await client.get(f"{service.url}/v1/nothing", headers=headers())
    assert (broken.status_code, huge.status_code, lost.status_code) == (400, 413, 404)
    assert all("message" in answer.json()["error"] for answer in (broken, huge, lost))


LONG: dict[str, Any] = {"messages": QUESTION, "temperature": 0, "max_tokens": 400}


async def test_a_client_that_leaves_a_stream_frees_its_place(service: InferenceProcess) -> None:
    await idle(service)
    stream = await service.client().chat.completions.create(model="cats", stream=True, **LONG)
    async for _ in stream:
        break
    await stream.close()
    await idle(service)


async def test_a_client_that_stops_waiting_frees_its_place(service: InferenceProcess) -> None:
    await idle(service)
    before = await service.metric("sskai_inference_tokens_total")
    asking = asyncio.create_task(service.client().chat.completions.create(model="cats", **LONG))
    await busy(service)
    asking.cancel()
    await idle(service)
    assert await service.metric("sskai_inference_tokens_total") - before < LONG["max_tokens"]


async def test_more_requests_than_may_wait_get_429_with_retry_after(service: InferenceProcess) -> None:
    await idle(service)
    answers = await asyncio.gather(
        *(service.client().chat.completions.create(model="cats", **{**LONG, "max_tokens": 100}) for _ in range(14)),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert 1 <= len(refused) <= 6  # four are under way, four wait; some may have ended before the last one came
    for error in refused:
        assert isinstance(error, openai.RateLimitError)
        assert error.response.headers["retry-after"] == "1"
        assert error.code == "queue_full"


async def test_an_endpoint_can_be_asked_the_moment_it_was_requested(
    service: InferenceProcess, published: dict[str, Published]
) -> None:
    event = events.EndpointRequested(
        endpoint_id="end_early",
        tenant_id=TENANT,
        name="early",
        model_id="model_early",
        version=1,
        base_model_id="tiny",
        base_uri="builtin://tiny",
        artifact_uri=published["dogs"].uri,
    )
    await service.publish(event)

    async def known() -> bool:
        return (await service.get("/v1/models/early")).status_code == 200

    await wait_for(known)
    assert await say(service, "early") == await say(service, "dogs")
    (ready,) = await service.told(events.EndpointReady, "end_early")
    assert 0 < ready.load_seconds < 30
    await service.publish(events.EndpointDeletionRequested(endpoint_id="end_early", tenant_id=TENANT))

    async def gone() -> bool:
        return (await service.get("/v1/models/early")).status_code == 404

    await wait_for(gone)
    await heard(service, events.EndpointDeleted, "end_early")


async def test_a_failed_endpoint_says_why(service: InferenceProcess) -> None:
    await service.publish(
        events.EndpointRequested(endpoint_id="end_bad", tenant_id=TENANT, name="bad", base_uri="builtin://absent")
    )
    (failed,) = await heard(service, events.EndpointFailed, "end_bad")
    assert "no built-in model 'absent'" in failed.reason
    with pytest.raises(openai.ConflictError, match="absent"):
        await say(service, "bad")


async def test_samples_are_told_and_redacted(service: InferenceProcess) -> None:
    endpoint_id = await service.deploy("watched", rate=1.0)
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "I am ada@example.org, call 0301234567"},
    ]
    said = await say(service, "watched", messages=messages)
    (sample,) = await heard(service, events.InferenceSampled, endpoint_id)
    assert sample.input_text == "I am [email], call [number]"
    assert sample.output_text == said[:2000]
    assert (sample.output_tokens, sample.finish_reason) == (16, "length")
    assert 0 < sample.time_to_first_token_seconds <= sample.duration_seconds
    assert sample.mean_logprob < 0
    assert await service.told(events.InferenceSampled, "end_tenant_a_base") == []


async def test_figures_are_counted(service: InferenceProcess) -> None:
    names = (
        "sskai_inference_requests_total",
        "sskai_inference_tokens_total",
        "sskai_inference_time_to_first_token_seconds_count",
        "sskai_inference_time_per_output_token_seconds_count",
    )
    before = [await service.metric(name) for name in names]
    await say(service, "base")
    after = [await service.metric(name) for name in names]
    assert after[0] - before[0] == 1
    assert after[1] - before[1] > 16
    assert after[2] - before[2] == after[3] - before[3] == 1
    assert await service.metric("sskai_inference_loaded_endpoints") >= 3


async def test_after_kill_9_what_was_ready_answers_again(service: InferenceProcess) -> None:
    said = await say(service, "cats")
    service.kill()
    # Healthy, not ready: the broker waits some seconds for the dead consumer, requests need not.
    await asyncio.to_thread(service.start, path="/healthz")
    assert await say(service, "cats") == said, "the request waits until the adapter is loaded again"
    assert len(await service.told(events.EndpointReady, f"end_{TENANT}_cats")) == 1


async def test_sigterm_ends_it_in_time_also_in_the_middle_of_an_answer(service: InferenceProcess) -> None:
    asking = asyncio.create_task(say(service, "cats", max_tokens=400))
    await busy(service)
    code = await asyncio.to_thread(service.terminate, 15)
    assert code == 0
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.to_thread(service.start)
