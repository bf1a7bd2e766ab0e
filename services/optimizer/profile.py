"""What a model asks of any machine: parameters, FLOPs and bytes, counted without a single weight.

A worker process of its own (`python -m services.optimizer.profile`): JSON lines in on standard input, an answer line
each on standard output. It keeps the seconds that importing torch takes away from every request, and takes a hostile or
broken model configuration down with itself instead of with the service. Nothing is downloaded and no model code from
outside runs: the configuration must name an architecture that transformers ships.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from operator import eq
from typing import Any

from services.optimizer import serving_profile, vision
from services.optimizer.memory import ADAPTED, METHODS
from sskai.importing import without_garbage_collection

MAX_LAYERS = 512
MIN_REPEATS = 3  # as many as a stack is grown from
MAX_PERIOD = 8  # of layers that differ in kind, such as sliding and full attention
MAX_SEQUENCE_LENGTH = 131_072
MAX_PARAMETERS = 10**13
# A 70-billion-parameter model takes 0.8 GB to profile (graph and modules, no weights).
ADDRESS_SPACE_BYTES = 24 * 1024**3
LORA_DROPOUT = 0.0  # the trainer's: its masks would be kept for the backward pass


class ModelError(ValueError):
    """The configuration cannot be built; the text is for the user."""


def profile(request: dict[str, Any]) -> dict[str, Any]:
    """Count one training step.

    `request`: config_json (text of a transformers config.json), method (of METHODS), rank, alpha, target_modules
    (empty: all linear layers), sequence_length; dora, labels (classes of a classification; 0: a language model),
    pictures (whether they are what is classified) and pipeline (whether config_json is that of one of diffusers).
    Returns the fields of `memory.ModelProfile`. Raises ModelError.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from services.optimizer import liveness

    if request["method"] not in METHODS:
        raise ModelError(f"method {request['method']!r} is not known; use one of {', '.join(METHODS)}")
    if request.get("pipeline"):
        from services.optimizer import diffusion

        try:
            return diffusion.count(request, _fake)
        except diffusion.PipelineError as error:
            raise ModelError(str(error)) from error
    length = min(int(request["sequence_length"]), MAX_SEQUENCE_LENGTH)
    labels = request.get("labels", 0)

    if request.get("pictures"):
        with FakeTensorMode():
            return vision.count(
                _fake(_trainable(_build(request["config_json"], labels=labels, pictures=True), request))
            )

    def built(few: int | None = None, precision: Any = None) -> Any:
        return _trainable(_build(request["config_json"], few, precision, labels=labels), request)

    model = built()
    layers = _layers(model)
    head = None if labels else model.get_output_embeddings()
    period = _period(model, layers)
    block, outside = _pieces(model)
    weights = list(model.parameters())
    learning = [weight.numel() for weight in weights if weight.requires_grad]
    linear = [
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad and module is not head
    ]

    def builder(precision: Any, *, checkpointing: bool) -> Callable[[int | None], Any]:
        def build(few: int | None) -> Any:
            made = _fake(built(few, precision))
            if checkpointing:
                made.activation_checkpointing_enable({"use_reentrant": False})
            return made.train()

        return build

    def precision_facts(precision: Any) -> dict[str, Any]:
        held = built(None, precision)
        size = sum(tensor.numel() * tensor.element_size() for tensor in (*held.parameters(), *held.buffers()))
        grown = sum(tensor.numel() * tensor.element_size() for tensor in held.parameters() if tensor.requires_grad)
        peaks = {}
        for name, checkpointing in (("plain", False), ("checkpointed", True)):
            alive = liveness.measure(builder(precision, checkpointing=checkpointing), layers, length, period=period)
            peaks[name] = {"fresh": alive.fresh, "accumulating": alive.accumulating}
        return {"weight_bytes": size, "gradient_bytes": grown, **peaks}

    with FakeTensorMode():
        flops, recomputing = (
            liveness.flops(builder(torch.float32, checkpointing=on), layers, length, period=period)
            for on in (False, True)
        )
        return {
            "parameters": sum(weight.numel() for weight in weights) - _adapter_parameters(request, learning),
            "trainable_parameters": sum(learning),
            "largest_trainable_parameters": max(learning),
            "layers": layers,
            "linear_parameters": sum(linear),
            "largest_linear_parameters": max(linear, default=0),
            "block_parameters": block,
            "outside_parameters": outside,
            "flops_per_token": flops / length,
            "recomputing_flops_per_token": recomputing / length,
            "float32": precision_facts(torch.float32),
            "bfloat16": precision_facts(torch.bfloat16),
        }


def _adapter_parameters(request: dict[str, Any], learning: list[int]) -> int:
    return sum(learning) if request["method"] in ADAPTED else 0


def _pieces(model: Any) -> tuple[int, int]:
    """Parameters of the largest block of layers, and of what lies outside of all: a split model's pieces, as the
    trainer makes them of every list of modules (the innermost list has what is in several)."""
    import torch

    known: set[int] = set()

    def own(module: Any) -> int:
        fresh = [weight for weight in module.parameters() if id(weight) not in known]
        known.update(map(id, fresh))
        return sum(weight.numel() for weight in fresh)

    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    largest = max((own(block) for stack in reversed(stacks) for block in stack), default=0)
    return largest, own(model) if largest else 0


def _build(
    config_json: str, layers: int | None = None, precision: Any = None, *, labels: int = 0, pictures: bool = False
) -> Any:
    """The model on the meta device; of so many layers and in the precision that is said, else float32."""
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageClassification,
        AutoModelForSequenceClassification,
    )

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
        if labels:
            fields |= {"num_labels": labels} if pictures else {"num_labels": labels, "pad_token_id": 0}
            fields.pop("id2label", None)
        config = AutoConfig.for_model(model_type, **fields)
        kind = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
        kind = AutoModelForImageClassification if pictures else kind
        text = config.get_text_config()
        configured = getattr(text, "num_hidden_layers", 1)
        if configured <= MAX_LAYERS:
            if layers is not None:
                _shorten(text, layers)
            with unset_fake_temporarily(), torch.device("meta"):
                model = kind.from_config(config, dtype=precision or torch.float32, trust_remote_code=False)
                return _checked(model)
    except ModelError:
        raise
    except Exception as error:  # whatever a broken configuration makes transformers raise is the user's to read
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"transformers cannot build a {model_type!r} from this config.json: {reason}") from error
    raise ModelError(f"{configured} layers; the limit is {MAX_LAYERS}")


def _checked(model: Any) -> Any:
    parameters = sum(weight.numel() for weight in model.parameters())
    if parameters > MAX_PARAMETERS:
        raise ModelError(f"{parameters:.3g} parameters; the limit is {MAX_PARAMETERS:.0e}")
    return model


def _shorten(config: Any, layers: int) -> None:
    config.num_hidden_layers = layers
    if isinstance(getattr(config, "layer_types", None), list):
        config.layer_types = config.layer_types[:layers]


def _trainable(model: Any, request: dict[str, Any]) -> Any:
    """What the method trains: everything, or adapters on a frozen base. Raises ModelError."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    if request["method"] not in ADAPTED:
        return model
    pictures = request.get("pictures", False)
    try:
        lora = LoraConfig(
            r=request["rank"],
            lora_alpha=request["alpha"] or 2 * request["rank"],
            lora_dropout=LORA_DROPOUT,
            target_modules=request["target_modules"] or (vision.adapted(model) if pictures else "all-linear"),
            modules_to_save=[vision.HEAD] if pictures else None,
            task_type=None if pictures else "SEQ_CLS" if request.get("labels") else "CAUSAL_LM",
            use_dora=request.get("dora", False),
        )
        with unset_fake_temporarily(), torch.device("meta"):
            return get_peft_model(model, lora)
    except (ValueError, TypeError) as error:
        raise ModelError(f"LoRA does not fit this model: {error}") from error


def _fake(model: Any) -> Any:
    """The same model on fake tensors of the CPU, whose operators are those of real training. Under a FakeTensorMode."""
    import torch

    made: dict[int, tuple[Any, Any]] = {}  # tied weights stay tied; the originals are kept so that ids stay theirs
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    if isinstance(tensor, torch.nn.Parameter):
                        empty = torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
                    made[id(tensor)] = (tensor, empty)
                table[name] = made[id(tensor)][1]
    return model


def _layers(model: Any) -> int:
    return int(getattr(model.config.get_text_config(), "num_hidden_layers", 1))


def _period(model: Any, layers: int) -> int:
    """After how many layers the stack repeats itself, so that a few tell about all (1: all are alike); 0: never."""
    import torch

    kinds = getattr(model.config.get_text_config(), "layer_types", None) or [""] * layers
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == layers]
    if len(stacks) != 1 or len(kinds) != layers:
        return 0
    looks = [
        (kind, [(name, tuple(weight.shape), weight.requires_grad) for name, weight in layer.named_parameters()])
        for kind, layer in zip(kinds, stacks[0], strict=True)
    ]
    longest = min(MAX_PERIOD, layers // MIN_REPEATS)
    repeats = (period for period in range(1, longest + 1) if all(map(eq, looks, looks[period:])))
    return next(repeats, 0)


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
    with without_garbage_collection():
        import peft
        import torch
        import transformers

        from services.optimizer import liveness  # noqa: F401 (imported while nobody waits)

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(json.dumps({"ready": True, "peft": peft.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(answer(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
