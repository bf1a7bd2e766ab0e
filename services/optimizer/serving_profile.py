"""What serving a model asks of any machine, counted on the meta device without a single weight.

Runs inside the profiling worker (`profile.py`), which builds the model and takes the blame when that fails.
"""

from __future__ import annotations

from typing import Any

# So many tokens and half of them tell what grows with the tokens from what grows with their pairs. It is less than any
# sliding window, so that every layer still keeps every token: a cautious count of the cache.
TOKENS = 128
BYTES_PER_VALUE = 4  # as everywhere in profiles, of float32


def count(model: Any) -> dict[str, Any]:
    """One forward pass at two lengths. `model`: a transformers causal model on the meta device.

    Returns the fields of `serving_rates.ServingProfile`. FLOPs of `n` tokens that attend to each other are
    a x n + b x n^2; the linear part a and the pair's part b follow from the two lengths.
    """
    from torch import nn

    model.eval()
    config = model.config.get_text_config()
    context = int(getattr(config, "max_position_embeddings", 0) or 0)
    half = max(min(TOKENS, context or TOKENS) // 2, 1)
    (half_flops, half_bytes), (flops, cache_bytes) = _forward(model, half), _forward(model, 2 * half)
    pair = (flops - 2 * half_flops) / (2 * half**2)
    head = model.get_output_embeddings()
    adapted = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "layers": int(getattr(config, "num_hidden_layers", 1)),
        "hidden_size": int(config.hidden_size),
        "vocabulary": int(config.vocab_size),
        "context_length": context,
        "kv_bytes_per_token": (cache_bytes - half_bytes) / half,
        "flops_per_token": half_flops / half - pair * half,
        "attention_flops_per_pair": pair,
        "linear_layers": len(adapted),
        "adapter_parameters_per_rank": sum(layer.in_features + layer.out_features for layer in adapted),
    }


def _forward(model: Any, tokens: int) -> tuple[int, int]:
    """FLOPs of one sequence of so many tokens, and the bytes of the cache that it leaves."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        output = model(input_ids=torch.zeros((1, tokens), dtype=torch.long, device="meta"), use_cache=True)
    layers = getattr(getattr(output, "past_key_values", None), "layers", None)
    if not layers:
        raise ValueError("it keeps no key-value cache, and only models that do are served")
    kept = [part for layer in layers for part in (layer.keys, layer.values)]
    return counter.get_total_flops(), BYTES_PER_VALUE * sum(part.numel() for part in kept)
