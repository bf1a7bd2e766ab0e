"""What a model asks of any machine: parameters, FLOPs and bytes, counted on the meta device without a single weight.

A worker process of its own (`python -m services.optimizer.profile`): JSON lines in on standard input, an answer line
each on standard output. It keeps the seconds that importing torch takes away from every request, and takes a hostile or
broken model configuration down with itself instead of with the service. Nothing is downloaded and no model code from
outside runs: the configuration must name an architecture that transformers ships.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from services.optimizer import serving_profile

MAX_LAYERS = 512
MAX_SEQUENCE_LENGTH = 131_072
MAX_PARAMETERS = 10**13
# A 70-billion-parameter model takes 1.0 GB to profile (graph and modules, no weights).
ADDRESS_SPACE_BYTES = 24 * 1024**3


class ModelError(ValueError):
    """The configuration cannot be built; the text is for the user."""


def profile(request: dict[str, Any]) -> dict[str, Any]:
    """Count one forward and backward pass of one sequence.

    `request`: config_json (text of a transformers config.json), method ("lora"), rank, alpha, target_modules (empty:
    all linear layers), sequence_length. Returns the fields of `work.ModelProfile`; activation bytes are those of
    float32 with fused attention. Raises ModelError.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode

    model = _build(request["config_json"])
    text_config = model.config.get_text_config()
    parameters = sum(weight.numel() for weight in model.parameters())
    if parameters > MAX_PARAMETERS:
        raise ModelError(f"{parameters:.3g} parameters; the limit is {MAX_PARAMETERS:.0e}")
    length = min(int(request["sequence_length"]), MAX_SEQUENCE_LENGTH)
    if request["method"] != "lora":
        raise ModelError(f"method {request['method']!r} is not known; use 'lora'")
    try:
        lora = LoraConfig(
            r=request["rank"],
            lora_alpha=request["alpha"] or 2 * request["rank"],
            target_modules=request["target_modules"] or "all-linear",
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, lora)
    except (ValueError, TypeError) as error:
        raise ModelError(f"LoRA does not fit this model: {error}") from error
    model.train()
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    counter = FlopCounterMode(display=False)
    with counter:
        whole = _saved_bytes(torch, model, length)
    half = _saved_bytes(torch, model, length // 2)
    return {
        "parameters": parameters,
        "trainable_parameters": trainable,
        "layers": int(getattr(text_config, "num_hidden_layers", 1)),
        "flops_per_token": counter.get_total_flops() / length,
        # The meta device has no fused attention: it keeps a score for every pair of tokens, which real kernels do not.
        # a*s + b*s^2 measured at s and at s/2 gives the linear part: a*s = 4*A(s/2) - A(s).
        "activation_bytes_per_sequence": max(4 * half - whole, 0),
        "logits_bytes_per_sequence": 4 * length * int(text_config.vocab_size),
    }


def _build(config_json: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        fields = json.loads(config_json)
    except ValueError as error:
        raise ModelError(f"config.json is not JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("model_type"), str):
        raise ModelError("config.json names no model_type: give the config.json that transformers saved with the model")
    model_type = fields.pop("model_type")
    for remote in ("auto_map", "quantization_config", "torch_dtype", "dtype"):
        fields.pop(remote, None)
    try:
        config = AutoConfig.for_model(model_type, **fields)
        layers = getattr(config.get_text_config(), "num_hidden_layers", 1)
        if layers <= MAX_LAYERS:
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # whatever a broken configuration makes transformers raise is the user's to read
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"transformers cannot build a {model_type!r} from this config.json: {reason}") from error
    raise ModelError(f"{layers} layers; the limit is {MAX_LAYERS}")


def _saved_bytes(torch: Any, model: Any, length: int) -> int:
    """Bytes that one sequence's forward pass keeps for its backward pass, which runs too, for the FLOP counter."""
    weights = {weight.untyped_storage()._cdata for weight in model.parameters()}
    saved: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage
        return tensor

    tokens = torch.zeros((1, length), dtype=torch.long, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=tokens, labels=tokens).loss
    size: int = sum(storage.nbytes() for storage in saved.values())
    loss.backward()
    model.zero_grad()
    return size


def answer(line: str) -> str:
    """One answer line: the counts, or {"error": text for the user}."""
    try:
        request = json.loads(line)
        serve = request.get("serve")
        return json.dumps(serving_profile.count(_build(request["config_json"])) if serve else profile(request))
    except ModelError as error:
        return json.dumps({"error": str(error)})
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        return json.dumps({"error": f"the model cannot be run: {type(error).__name__}: {str(error)[:300]}"})


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    # Libraries write warnings to standard output; the answers must stay alone on it.
    answers, sys.stdout = sys.stdout, sys.stderr
    import peft
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(json.dumps({"ready": True, "peft": peft.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(answer(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
