"""A stand-in for `vllm serve` on a CPU: the flags, routes, fields and chunks that vLLM 0.33 documents and we use, and
nothing else; tokens by transformers. What it does not know it refuses, so that a misspelt flag or field is noticed.

`python -m tests.inference.vllm_stand_in serve FOLDER --port N ...`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from peft import PeftModel
from pydantic import BaseModel, ConfigDict
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.inference import sampling
from services.inference.engine import Sampling
from services.inference.grammar import Grammars
from services.inference.sampling import Drawn


class Completion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str
    prompt: list[int]
    max_tokens: int
    min_tokens: int
    temperature: float
    top_p: float
    frequency_penalty: float
    presence_penalty: float
    logprobs: int
    stop_token_ids: list[int]
    stream: bool
    stream_options: dict[str, bool]
    return_token_ids: bool
    return_tokens_as_token_ids: bool
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    structured_outputs: dict[str, Any] | None = None


def parsed() -> argparse.Namespace:
    given = argparse.ArgumentParser()
    given.add_argument("serve", choices=["serve"])
    given.add_argument("folder", type=Path)
    for name in ("--host", "--served-model-name", "--generation-config", "--logprobs-mode"):
        given.add_argument(name, required=True)
    for name in ("--port", "--tensor-parallel-size", "--max-model-len", "--max-num-seqs", "--max-logprobs"):
        given.add_argument(name, type=int, required=True)
    given.add_argument("--dtype", choices=["bfloat16", "float16"], required=True)
    given.add_argument("--gpu-memory-utilization", type=float, required=True)
    given.add_argument("--structured-outputs-config", type=json.loads, required=True)
    for name in ("--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-lora"):
        given.add_argument(name, action="store_true")
    given.add_argument("--max-loras", type=int, default=1)
    given.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512], default=16)
    return given.parse_args()


class Model:
    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.adapters: dict[str, Any] = {}
        self._base: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self._ends = [tokenizer.eos_token_id]
        self._grammars = Grammars(tokenizer, self._base.config.vocab_size, self._ends)
        self._lock = threading.Lock()

    def attach(self, name: str, folder: str) -> None:
        with self._lock:
            self.adapters[name] = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(self.folder), folder
            ).eval()

    def say(self, asked: Completion, tell: Callable[[Drawn, str | None], bool]) -> None:
        """Draw until the end, or until nobody listens."""
        how = Sampling(
            asked.max_tokens,
            asked.temperature,
            asked.top_p,
            min_tokens=asked.min_tokens,
            frequency_penalty=asked.frequency_penalty,
            presence_penalty=asked.presence_penalty,
            logit_bias=tuple((int(token), bias) for token, bias in (asked.logit_bias or {}).items()),
            top_logprobs=asked.logprobs + 1,
        )
        schema = json.dumps(asked.structured_outputs["json"]) if asked.structured_outputs else ""
        grammar = self._grammars.start(schema) if schema else None
        draw = sampling.Draw(how, sampling.dice(asked.seed), frozenset([*asked.stop_token_ids, *self._ends]), grammar)
        model = self.adapters.get(asked.model, self._base)
        given, past = torch.tensor([asked.prompt]), None
        for count in range(asked.max_tokens):
            with self._lock, torch.inference_mode():
                out = model(input_ids=given, past_key_values=past, use_cache=True)
            past = out.past_key_values
            (drawn,) = sampling.draw(out.logits[:, -1], [draw])
            assert isinstance(drawn, Drawn)
            whole = draw.take(drawn.token)
            reason = "stop" if whole else "length" if count + 1 == asked.max_tokens else None
            if not tell(drawn, reason) or reason:
                return
            given = torch.tensor([[drawn.token]])


def refused(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "Error", "param": None, "code": status}}, status)


def build(given: argparse.Namespace) -> FastAPI:
    app, model = FastAPI(), Model(given.folder, given.served_model_name)

    @app.get("/health")
    async def health() -> Response:
        return Response()

    @app.post("/v1/load_lora_adapter")
    async def load(request: Request) -> Response:
        body = await request.json()
        if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") != "1" or not given.enable_lora:
            return refused(404, "Not Found")
        if body["lora_name"] in model.adapters:
            return refused(400, f"The lora adapter '{body['lora_name']}' has already been loaded.")
        rank = json.loads((Path(body["lora_path"]) / "adapter_config.json").read_text())["r"]
        if rank > given.max_lora_rank:
            return refused(500, f"LoRA rank {rank} is greater than max_lora_rank {given.max_lora_rank}.")
        await asyncio.to_thread(model.attach, body["lora_name"], body["lora_path"])
        return Response(f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    @app.post("/v1/unload_lora_adapter")
    async def unload(request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if model.adapters.pop(name, None) is None:
            return refused(404, f"The lora adapter '{name}' cannot be found.")
        return Response(f"Success: LoRA adapter '{name}' removed successfully.")

    @app.post("/v1/completions")
    async def complete(asked: Completion) -> Response:
        if asked.model not in (model.name, *model.adapters):
            return refused(404, f"The model `{asked.model}` does not exist.")
        if len(asked.prompt) + asked.max_tokens > given.max_model_len:
            return refused(400, f"This model's maximum context length is {given.max_model_len} tokens.")
        return StreamingResponse(chunks(model, asked), media_type="text/event-stream")

    return app


async def chunks(model: Model, asked: Completion) -> AsyncIterator[bytes]:
    loop, told, listening = asyncio.get_running_loop(), asyncio.Queue[tuple[Drawn, str | None]](), threading.Event()
    listening.set()

    def tell(drawn: Drawn, reason: str | None) -> bool:
        loop.call_soon_threadsafe(told.put_nowait, (drawn, reason))
        return listening.is_set()

    threading.Thread(target=model.say, args=(asked, tell), daemon=True).start()
    first, reason = True, None
    try:
        while reason is None:
            drawn, reason = await told.get()
            choice = {
                "index": 0,
                "text": "",
                "logprobs": {
                    "text_offset": [0],
                    "tokens": [f"token_id:{drawn.token}"],
                    "token_logprobs": [drawn.logprob],
                    "top_logprobs": [{f"token_id:{token}": logprob for token, logprob in drawn.top}],
                },
                "finish_reason": reason,
                "stop_reason": None,
                "token_ids": [drawn.token],
            }
            yield event({"choices": [choice | ({"prompt_token_ids": asked.prompt} if first else {})]})
            first = False
        usage = {"prompt_tokens": len(asked.prompt), "completion_tokens": 1, "total_tokens": 1}
        yield event({"choices": [], "usage": usage | {"prompt_tokens_details": {"cached_tokens": 0}}})
        yield b"data: [DONE]\n\n"
    finally:
        listening.clear()


def event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"id": "cmpl-1", "object": "text_completion", **chunk}).encode() + b"\n\n"


if __name__ == "__main__":
    arguments = parsed()
    torch.set_num_threads(1)
    uvicorn.run(build(arguments), host=arguments.host, port=arguments.port, log_level="warning")
