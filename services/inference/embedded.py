"""Making the embedded engine from the settings. Imported at the first load: torch takes seconds."""

from __future__ import annotations

from services.inference.runner import Limits
from services.inference.settings import Settings
from services.inference.transformers_engine import TransformersEngine


def new_engine(settings: Settings) -> TransformersEngine:
    return TransformersEngine(
        limits=Limits(
            settings.max_concurrent_sequences,
            settings.max_waiting_sequences,
            settings.prefill_chunk_tokens,
            settings.prefix_cache_bytes,
        ),
        max_context_tokens=settings.max_context_tokens,
        threads=settings.threads,
        device=settings.device,
        max_waiting_pictures=settings.max_waiting_pictures,
    )
