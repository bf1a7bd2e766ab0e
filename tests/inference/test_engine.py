"""The engine on a tiny model: batches, adapters, sampling, limits. What is said alone is said in company, too."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from services.inference.engine import (
    Generation,
    NotLoadedError,
    OverloadedError,
    Piece,
    PromptError,
    Sampling,
    UnusableWeightsError,
)
from services.inference.runner import Limits
from services.inference.transformers_engine import TransformersEngine
from sskai.testing import wait_for

GREEDY = Sampling(max_tokens=20, temperature=0)
QUESTIONS = [
    "Hello!",
    "What is the capital of France?",
    "Where is my order? " * 12,
    "I would like to return the shoes that I bought last week.",
    "x",
]


@pytest.fixture(scope="module")
def engine(tiny: Path, adapters: dict[str, Path]) -> Iterator[TransformersEngine]:
    made = TransformersEngine(limits=Limits(4, 2, 16, 2**20), max_context_tokens=400, threads=1, device="cpu")
    made.load_base("tiny", tiny)
    for name, folder in adapters.items():
        made.attach_adapter("tiny", name, folder)
    yield made
    made.close()


def ask(engine: TransformersEngine, question: str, adapter: str | None = None, how: Sampling = GREEDY) -> Generation:
    tokens = engine.encode_chat("tiny", [{"role": "user", "content": question}])
    return engine.generate("tiny", adapter, tokens, how)[0]


async def whole(generation: Generation) -> list[Piece]:
    async with asyncio.timeout(30):
        return [piece async for piece in generation.pieces()]


async def text(generation: Generation) -> str:
    return "".join(piece.text for piece in await whole(generation))


async def until_idle(engine: TransformersEngine) -> None:
    await wait_for(lambda: engine.occupancy().active == 0 and engine.occupancy().waiting == 0)


def reference(tiny: Path, adapter: Path | None, tokens: list[int], count: int) -> list[int]:
    """What transformers' own generate says, with peft's own adapter."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    output = model.eval().generate(input_ids=torch.tensor([tokens]), max_new_tokens=count, do_sample=False)
    said: list[int] = output[0, len(tokens) :].tolist()
    return said


@pytest.mark.parametrize("adapter", [None, "cats", "dogs"])
async def test_greedy_answers_are_those_of_transformers_and_peft(
    engine: TransformersEngine, tiny: Path, adapters: dict[str, Path], adapter: str | None
) -> None:
    tokens = engine.encode_chat("tiny", [{"role": "user", "content": QUESTIONS[1]}])
    expected = reference(tiny, adapters[adapter] if adapter else None, tokens, GREEDY.max_tokens)
    said = await text(engine.generate("tiny", adapter, tokens, GREEDY)[0])
    tokenizer = engine._loaded("tiny").tokenizer
    assert said == tokenizer.decode(expected, skip_special_tokens=True, clean_up_tokenization_spaces=False)


async def test_requests_in_one_batch_get_the_same_answers_as_alone(engine: TransformersEngine) -> None:
    cases = [(question, adapter) for question in QUESTIONS[:2] for adapter in (None, "cats", "dogs")]
    alone = [await text(ask(engine, question, adapter)) for question, adapter in cases]
    assert len(set(alone)) == len(cases), "each adapter and question must have an answer of its own"
    together = await asyncio.gather(*(text(ask(engine, question, adapter)) for question, adapter in cases))
    assert list(together) == alone


async def test_sequences_of_different_lengths_join_and_leave_a_running_batch(engine: TransformersEngine) -> None:
    cases = [(question, Sampling(max_tokens=5 + 9 * at, temperature=0)) for at, question in enumerate(QUESTIONS)]
    alone = [await text(ask(engine, question, how=how)) for question, how in cases]
    first = [asyncio.create_task(text(ask(engine, question, how=how))) for question, how in cases[2:]]
    await wait_for(lambda: engine.occupancy().active > 0)
    later = [asyncio.create_task(text(ask(engine, question, how=how))) for question, how in cases[:2]]
    assert [await task for task in (*later, *first)] == alone


async def test_figures_of_an_answer(engine: TransformersEngine) -> None:
    pieces = await whole(ask(engine, QUESTIONS[0]))
    last = pieces[-1]
    assert (last.finish_reason, last.output_tokens) == ("length", GREEDY.max_tokens)
    assert -20 < last.mean_logprob < 0
    assert all(piece.finish_reason is None for piece in pieces[:-1])


async def test_a_seed_gives_the_same_answer_also_in_company(engine: TransformersEngine) -> None:
    def seeded(seed: int) -> Sampling:
        return Sampling(max_tokens=20, temperature=1.0, top_p=0.95, seed=seed)

    alone = await text(ask(engine, QUESTIONS[0], how=seeded(7)))
    again, other, _ = await asyncio.gather(
        text(ask(engine, QUESTIONS[0], how=seeded(7))),
        text(ask(engine, QUESTIONS[0], how=seeded(8))),
        text(ask(engine, QUESTIONS[2], "cats")),
    )
    assert again == alone
    assert other != alone


async def test_a_nucleus_of_nothing_is_greedy(engine: TransformersEngine) -> None:
    narrow = Sampling(max_tokens=20, temperature=1.0, top_p=0.0, seed=1)
    assert await text(ask(engine, QUESTIONS[0], how=narrow)) == await text(ask(engine, QUESTIONS[0]))


async def test_a_stop_text_ends_the_answer_and_is_left_out(engine: TransformersEngine) -> None:
    said = await text(ask(engine, QUESTIONS[1], "cats"))
    stop = said[5:8]
    pieces = await whole(ask(engine, QUESTIONS[1], "cats", Sampling(max_tokens=20, temperature=0, stop=(stop,))))
    assert "".join(piece.text for piece in pieces) == said[: said.index(stop)]
    assert pieces[-1].finish_reason == "stop"


async def test_leaving_early_frees_the_place(engine: TransformersEngine) -> None:
    generation = ask(engine, QUESTIONS[0], how=Sampling(max_tokens=300, temperature=1.0, seed=1))
    async for _ in generation.pieces():
        break
    await wait_for(lambda: generation.cancelled)
    await until_idle(engine)


async def test_too_many_requests_are_refused_and_the_others_answered(engine: TransformersEngine) -> None:
    await until_idle(engine)
    slow = Sampling(max_tokens=60, temperature=0)
    tokens = engine.encode_chat("tiny", [{"role": "user", "content": QUESTIONS[0]}])
    accepted = [engine.generate("tiny", None, tokens, slow)[0] for _ in range(6)]
    with pytest.raises(OverloadedError, match="6 requests"):
        engine.generate("tiny", None, tokens, slow)
    answers = await asyncio.gather(*(text(generation) for generation in accepted))
    assert len(set(answers)) == 1
    assert await text(engine.generate("tiny", None, tokens, slow)[0]) == answers[0]


async def test_a_detached_adapter_finishes_what_is_under_way(
    engine: TransformersEngine, adapters: dict[str, Path]
) -> None:
    long = Sampling(max_tokens=60, temperature=0)
    expected = await text(ask(engine, QUESTIONS[1], "cats", long))
    under_way = ask(engine, QUESTIONS[1], "cats", long)
    engine.retain({("tiny", ""), ("tiny", "dogs")})
    with pytest.raises(NotLoadedError):
        ask(engine, QUESTIONS[1], "cats")
    assert await text(under_way) == expected
    engine.attach_adapter("tiny", "cats", adapters["cats"])
    assert await text(ask(engine, QUESTIONS[1], "cats", long)) == expected


async def test_an_unloaded_base_finishes_what_is_under_way(tiny: Path) -> None:
    engine = TransformersEngine(limits=Limits(4, 2, 16, 2**20), max_context_tokens=400, threads=1, device="cpu")
    engine.load_base("tiny", tiny)
    under_way = ask(engine, QUESTIONS[0])
    runner = engine._loaded("tiny").runner
    engine.retain(set())
    assert len(await whole(under_way)) > 1
    runner.join(5)
    assert not runner._thread.is_alive()
    with pytest.raises(NotLoadedError):
        engine.context_tokens("tiny")


async def test_closing_ends_what_is_under_way_with_an_error(tiny: Path) -> None:
    engine = TransformersEngine(limits=Limits(4, 2, 16, 2**20), max_context_tokens=400, threads=1, device="cpu")
    engine.load_base("tiny", tiny)
    under_way = ask(engine, QUESTIONS[0], how=Sampling(max_tokens=300, temperature=0))
    engine.close()
    with pytest.raises(Exception, match="stopping"):
        await whole(under_way)


def test_the_context_is_the_smaller_of_model_and_limit(engine: TransformersEngine) -> None:
    assert engine.context_tokens("tiny") == 400


def test_a_conversation_that_the_template_refuses(engine: TransformersEngine) -> None:
    tokenizer = engine._loaded("tiny").tokenizer
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(PromptError, match="alternate"):
            engine.encode_chat("tiny", [{"role": "user", "content": "x"}])
        tokenizer.chat_template = None
        with pytest.raises(PromptError, match="no chat template"):
            engine.encode_chat("tiny", [{"role": "user", "content": "x"}])
    finally:
        tokenizer.chat_template = template


def test_a_base_without_safetensors_is_refused(engine: TransformersEngine, tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnusableWeightsError):
        engine.load_base("pickled", folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors: {name.replace("q_proj", "w_proj"): t for name, t in tensors.items()}, "another model"),
        (lambda tensors: {name: t[:, :-1].contiguous() for name, t in tensors.items()}, "do not fit"),
        (lambda tensors: {name: t for name, t in tensors.items() if "lora_A" in name}, "one half"),
        (lambda tensors: {name: t * float("nan") for name, t in tensors.items()}, "not all finite"),
        (lambda tensors: {**tensors, "base_model.model.lm_head.weight": torch.zeros(2)}, "only LoRA"),
        (lambda tensors: {}, "no tensors"),
    ],
)
def test_an_adapter_of_another_model_is_refused_with_the_layer(
    engine: TransformersEngine, adapters: dict[str, Path], tmp_path: Path, change: Any, says: str
) -> None:
    folder = shutil.copytree(adapters["cats"], tmp_path / "wrong")
    save_file(change(load_file(folder / "adapter_model.safetensors")), folder / "adapter_model.safetensors")
    with pytest.raises(UnusableWeightsError, match=says):
        engine.attach_adapter("tiny", "wrong", folder)
    with pytest.raises(NotLoadedError):
        ask(engine, QUESTIONS[0], "wrong")
