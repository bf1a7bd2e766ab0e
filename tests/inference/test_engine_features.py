"""What an answer may be asked beside its text: schemas, log-probabilities, penalties, copies, prefixes, vectors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from services.inference.engine import GrammarError, Piece, PromptError, Sampling
from services.inference.runner import Limits
from services.inference.transformers_engine import TransformersEngine

GREEDY = Sampling(max_tokens=12, temperature=0)
LONG = "Where is my order? Your order was shipped yesterday and will arrive within three working days. "


@pytest.fixture(scope="module")
def engine(tiny: Path, adapters: dict[str, Path]) -> Iterator[TransformersEngine]:
    made = TransformersEngine(limits=Limits(8, 8, 24, 2**22), max_context_tokens=400, threads=1, device="cpu")
    made.load_base("tiny", tiny)
    for name, folder in adapters.items():
        made.attach_adapter("tiny", name, folder)
    yield made
    made.close()


async def ask(
    engine: TransformersEngine, text: str, how: Sampling = GREEDY, adapter: str | None = None, copies: int = 1
) -> list[list[Piece]]:
    generations = engine.generate("tiny", adapter, engine.encode_text("tiny", text), how, copies)
    async with asyncio.timeout(60):
        return [[piece async for piece in generation.pieces()] for generation in generations]


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


async def test_a_prompt_that_begins_like_another_goes_on_from_there_and_answers_the_same(
    engine: TransformersEngine, tiny: Path
) -> None:
    fresh = TransformersEngine(limits=Limits(8, 8, 24), max_context_tokens=400, threads=1, device="cpu")
    fresh.load_base("tiny", tiny)
    prompts = [LONG * 2 + end for end in ("Hello!", "Goodbye!", "Hello! Please tell me what you need")]
    expected = [text_of((await ask(fresh, prompt))[0]) for prompt in prompts]
    fresh.close()
    answers = [(await ask(engine, prompt))[0] for prompt in prompts]
    assert [text_of(pieces) for pieces in answers] == expected
    cached = [pieces[-1].work.cached_tokens for pieces in answers]
    lengths = [len(engine.encode_text("tiny", prompt)) for prompt in prompts]
    assert cached[0] == 0
    assert all(0.7 * length < hit < length for hit, length in zip(cached[1:], lengths[1:], strict=True))


async def test_a_prefix_belongs_to_its_adapter(engine: TransformersEngine) -> None:
    prompt = "I would like to return the shoes. " + LONG
    said = [(await ask(engine, prompt, adapter=adapter))[0] for adapter in ("cats", "dogs", None, "cats")]
    assert [pieces[-1].work.cached_tokens > 0 for pieces in said] == [False, False, False, True]
    assert text_of(said[3]) == text_of(said[0])


async def test_what_is_kept_of_prompts_is_bounded(engine: TransformersEngine) -> None:
    for number in range(40):
        await ask(engine, f"{number} " + LONG * 3, Sampling(1, temperature=0))
    kept = engine._loaded("tiny").runner._prefixes
    assert 0 < kept.bytes <= 2**22
    assert kept.bytes == sum(entry.block.bytes for entry in kept._entries.values())


async def test_an_answer_matches_its_schema(engine: TransformersEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Madrid"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    for temperature in (0, 1):
        how = Sampling(64, temperature=temperature, seed=3, schema=json.dumps(schema))
        one, other = await ask(engine, "What is the capital?", how, copies=2)
        for pieces in (one, other):
            answer = json.loads(text_of(pieces))
            assert pieces[-1].finish_reason == "stop"
            assert answer["city"] in {"Paris", "Madrid"}
            assert 1 <= answer["days"] <= 9


def test_a_schema_that_nothing_can_match_is_refused(engine: TransformersEngine) -> None:
    engine.check_schema("tiny", '{"type": "object"}')
    for schema in ('{"type": "what"}', "[]", '{"$ref": "#/nowhere"}'):
        with pytest.raises(GrammarError):
            engine.check_schema("tiny", schema)


async def test_logprobs_are_those_of_the_model(engine: TransformersEngine, tiny: Path) -> None:
    (pieces,) = await ask(engine, "Hello, how", Sampling(6, temperature=0, top_logprobs=3))
    told = [one for piece in pieces for one in piece.logprobs]
    tokens = engine.encode_text("tiny", "Hello, how")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    made = model.generate(
        torch.tensor([tokens]), max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    assert len(told) == len(made.logits) == 6
    for one, logits in zip(told, made.logits, strict=True):
        values = torch.log_softmax(logits[0], -1).topk(3).values
        assert [logprob for _, logprob in one.top] == pytest.approx(values.tolist(), abs=1e-4)
        assert one.top[0] == (one.text, one.logprob)
    assert pieces[-1].mean_logprob == pytest.approx(sum(one.logprob for one in told) / 6)


async def test_penalties_keep_tokens_from_coming_again(engine: TransformersEngine) -> None:
    def tokens_of(pieces: list[Piece]) -> list[str]:
        return [one.text for piece in pieces for one in piece.logprobs]

    plain = Sampling(40, temperature=0, top_logprobs=0)
    never = Sampling(40, temperature=0, top_logprobs=0, presence_penalty=2.0, frequency_penalty=2.0)
    (repeating,), (varied,) = await ask(engine, "x", plain), await ask(engine, "x", never)
    assert len(set(tokens_of(varied))) > len(set(tokens_of(repeating)))


async def test_a_bias_decides_and_the_end_can_be_put_off(engine: TransformersEngine) -> None:
    token = engine.encode_text("tiny", "capital")[0]
    (pieces,) = await ask(engine, "Hello", Sampling(4, temperature=0, logit_bias=((token, 100.0), (10**8, 1.0))))
    assert text_of(pieces) == engine._loaded("tiny").tokenizer.decode([token] * 4)
    (end,) = engine._loaded("tiny").runner._end_tokens
    biased = ((end, 100.0),)
    (short,) = await ask(engine, "Hello", Sampling(8, temperature=0, logit_bias=biased))
    (longer,) = await ask(engine, "Hello", Sampling(8, temperature=0, logit_bias=biased, min_tokens=5))
    assert (short[-1].output_tokens, longer[-1].output_tokens) == (1, 6)


async def test_copies_differ_by_their_seeds_and_share_the_prompt(engine: TransformersEngine) -> None:
    how = Sampling(16, temperature=1.0, seed=5)
    three = await ask(engine, LONG + "three", how, copies=3)
    (second,) = await ask(engine, LONG + "three", Sampling(16, temperature=1.0, seed=6))
    assert len({text_of(pieces) for pieces in three}) == 3
    assert text_of(three[1]) == text_of(second)
    assert [pieces[-1].work.cached_tokens > 0 for pieces in three][1:] == [True, True]


async def test_dora_is_what_peft_makes_of_it(engine: TransformersEngine, tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(9)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    config = LoraConfig(r=4, target_modules="all-linear", use_dora=True, init_lora_weights=False, task_type="CAUSAL_LM")
    tuned: Any = get_peft_model(model, config)
    with torch.no_grad():
        for name, part in tuned.named_parameters():
            if "magnitude" in name:
                part.mul_(1 + 0.2 * torch.rand_like(part))
    tuned.save_pretrained(tmp_path)
    engine.attach_adapter("tiny", "dora", tmp_path)
    tokens = engine.encode_text("tiny", "Where is my order?")
    whole: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), tmp_path)
    said = whole.generate(input_ids=torch.tensor([tokens]), max_new_tokens=12, do_sample=False)[0, len(tokens) :]
    expected = engine._loaded("tiny").tokenizer.decode(said, skip_special_tokens=True)
    alone, cats, together = await asyncio.gather(
        ask(engine, "Where is my order?", adapter="dora"),
        ask(engine, "Where is my order?", adapter="cats"),
        ask(engine, "Where is my order?", adapter="dora"),
    )
    assert text_of(alone[0]) == text_of(together[0]) == expected
    assert text_of(cats[0]) != expected


async def test_a_vector_is_the_mean_of_the_last_layer(engine: TransformersEngine, tiny: Path) -> None:
    texts = [engine.encode_text("tiny", text) for text in ("Hello!", LONG)]
    pieces = [[piece async for piece in one.pieces()] for one in engine.embed("tiny", None, texts)]
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    for tokens, (piece,) in zip(texts, pieces, strict=True):
        with torch.no_grad():
            expected = model.model(torch.tensor([tokens])).last_hidden_state[0].mean(0)
        assert piece.vector == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.fixture(scope="module")
def classifiers(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A whole classifier, and a LoRA adapter that makes one of `tiny`."""
    whole, adapter = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("adapter")
    torch.manual_seed(4)
    given: dict[str, Any] = {"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}}
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny, **given)
    model.save_pretrained(whole)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(whole)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="SEQ_CLS")
    get_peft_model(model, config).save_pretrained(adapter)
    (adapter / "sskai.json").write_text(json.dumps({"kind": "adapter", "labels": ["a", "b", "c"]}))
    return whole, adapter


def test_classifiers_answer_as_transformers_and_peft_do(
    engine: TransformersEngine, tiny: Path, classifiers: tuple[Path, Path]
) -> None:
    whole, adapter = classifiers
    engine.load_base("whole", whole)
    engine.load_classifier("tuned", tiny, adapter)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    base: Any = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=3)
    models: dict[str, Any] = {
        "whole": AutoModelForSequenceClassification.from_pretrained(whole),
        "tuned": PeftModel.from_pretrained(base, adapter),
    }
    for name, model in models.items():
        model.eval()
        rows = engine.classify(name, ["Hello!", LONG])
        assert engine.labels(name) == ("a", "b", "c")
        for text, row in zip(("Hello!", LONG), rows, strict=True):
            given = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.no_grad():
                expected = torch.softmax(model(input_ids=given).logits[0], -1)
            assert row == pytest.approx(expected.tolist(), abs=1e-4)
    with pytest.raises(PromptError, match="is a classifier"):
        engine.encode_text("whole", "x")
    with pytest.raises(PromptError, match="longer than the model's"):
        engine.classify("whole", ["word " * 900])
    assert engine.labels("tiny") == ()
