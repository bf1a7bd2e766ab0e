"""A language model small enough for a test: a random Llama of about a million parameters and a tokenizer of its own.

It is a real transformers folder (config, safetensors weights, tokenizer, chat template), so everything that loads a
foundation model loads this one too; what it says makes no sense. `python -m tests.tiny_model FOLDER` writes one.
"""

from __future__ import annotations

import sys
from pathlib import Path

MAX_VOCABULARY_TOKENS = 1024
CONTEXT_TOKENS = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Enough everyday English that common words become single tokens.
CORPUS = [
    "Hello, how can I help you today? Please tell me what you need and I will do my best to answer.",
    "Where is my order? Your order was shipped yesterday and will arrive within three working days.",
    "I would like to return the shoes that I bought last week because they are too small for me.",
    "You can reset your password on the sign-in page: choose the link and follow the message that we send you.",
    "The store opens at nine in the morning and closes at eight in the evening, on Sundays at six.",
    "What is the capital of France? The capital of France is Paris, and the capital of Spain is Madrid.",
    "Train the model on a spot machine, save a checkpoint, and go on when the machine was taken away.",
    "A refund takes up to five days. Thank you for waiting; have a good day, and goodbye!",
    '{"messages": [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]}',
    "0 1 2 3 4 5 6 7 8 9 10 20 30 50 100 1000 2024 2025 2026 USD $ % + - * / = ( ) [ ] < > ? ! . , : ;",
]


def build(folder: Path, *, seed: int = 0) -> Path:
    """Write the model to `folder` (created; files there are overwritten) and return it. Same seed, same weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=MAX_VOCABULARY_TOKENS,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        model_max_length=CONTEXT_TOKENS,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)

    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=fast.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=fast.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=fast.convert_tokens_to_ids("<|im_end|>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
