"""How long it takes to place an endpoint, and what the placement saves. Prints one JSON object.

Latency: one `serving.plan_endpoint` call over the whole catalogue, profile known, with a wish for pace and one for
latency, which is the slowest case. Costs: three models at four levels of traffic, every answer streaming with ten
tokens a second or more, by the kind that the plan chose. The peer is what many begin with: g5.xlarge on demand, all
month as many replicas as its busiest hour needs by the same estimates for the same traffic and wish. These are
estimates on catalogue prices, not bills.

Thin products: what share of a prompt's arithmetic a step of 16 answers reaches on this processor, on one thread, with a
model of SmolLM2-135M's shape; `serving_rates.STEP_SHARE_ON_PROCESSORS` is planned with.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.figures import Figure, figure, print_report
from services.optimizer import catalogue, serving
from services.optimizer.charges import HOURS_PER_MONTH
from services.optimizer.serving_rates import STEP_SHARE_ON_PROCESSORS, ServingProfile
from services.optimizer.serving_values import EndpointPlan, Option, Spec
from services.optimizer.values import Assumptions

CALLS = 200
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PEER = "g5.xlarge"

# What the profiling worker counts for SmolLM2-135M, Qwen2.5-1.5B and Llama 3.1 8B.
MODELS = {
    "135 million parameters": ServingProfile(
        134_515_008, 30, 576, 49_152, 8192, 46_080.0, 268_959_744.0, 69_120.0, 210, 305_280
    ),
    "1.5 billion parameters": ServingProfile(
        1_543_714_304, 28, 1536, 151_936, 32_768, 57_344.0, 3_087_138_816.0, 172_032.0, 196, 1_154_048
    ),
    "8 billion parameters": ServingProfile(
        8_030_261_248, 32, 4096, 128_256, 131_072, 262_144.0, 15_009_316_864.0, 524_288.0, 224, 2_621_440
    ),
}
REQUESTS_PER_DAY = (50, 2_000, 50_000, 1_000_000)
SPEC = Spec(requests_per_day=2_000, input_tokens_per_request=300, output_tokens_per_request=150, tokens_per_second=10.0)


def decide(spec: Spec, profile: ServingProfile) -> EndpointPlan:
    known = catalogue.snapshot()
    outcome = serving.plan_endpoint(
        spec, profile, machines=known.machines, offers=known.offers, assumptions=Assumptions(), now=NOW
    )
    assert isinstance(outcome, EndpointPlan), outcome
    return outcome


def latency() -> list[Figure]:
    spec = replace(SPEC, p95_latency_seconds=20.0, base_is_running=True, adapter_rank=8)
    profile = MODELS["8 billion parameters"]
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        decide(spec, profile)
        taken.append((time.perf_counter() - started) * 1e3)
    taken.sort()
    how = f"{CALLS} calls, {len(catalogue.snapshot().offers)} offers, {len(catalogue.snapshot().machines)} types"
    return [
        figure("endpoint-plan-latency-p50", statistics.median(taken), "ms", 100, "lower", peer=None, how=how),
        figure("endpoint-plan-latency-p99", taken[int(CALLS * 0.99) - 1], "ms", None, "lower", peer=None, how=how),
    ]


def costs() -> list[Figure]:
    figures = []
    for model, profile in MODELS.items():
        for requests in REQUESTS_PER_DAY:
            spec = replace(SPEC, requests_per_day=requests)
            plan = decide(spec, profile)
            chosen, (always_on_usd, peer) = plan.options[0], always_on(spec, profile)
            name = f"{model}, {requests:,} requests a day"
            figures += [
                figure(
                    f"monthly cost: {name}", chosen.usd_per_month, "USD", None, "lower",
                    peer=peer, how=described(chosen), kind=chosen.kind,
                    break_even_requests_per_day=round(chosen.break_even_requests_per_day, 1),
                ),
                figure(
                    f"saving: {name}", 1 - chosen.usd_per_month / always_on_usd, "fraction", None, "higher",
                    peer=peer, how="estimates on catalogue prices", kind=chosen.kind,
                ),
            ]  # fmt: skip
    return figures


def always_on(spec: Spec, profile: ServingProfile) -> tuple[float, str]:
    """A month of the peer's machine in its cheapest place, and in words."""
    plan = decide(replace(spec, instance_types=(PEER,)), profile)
    option = next(option for option in plan.options if option.kind == "on-demand")
    count, price = option.service.replicas, option.offer.price_usd_per_hour
    usd = count * price * HOURS_PER_MONTH
    return usd, f"always on: {count} x {PEER} in {option.offer.region}, on demand, {usd:.2f} USD a month"


def thin_products() -> list[Figure]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()

    def tokens_per_second(rows: int, tokens: int, before: int = 0) -> float:
        """The best of five passes: others use the machine, too."""
        seconds = []
        for _ in range(5):
            cache = None
            if before:
                prompt = torch.zeros((rows, before), dtype=torch.long)
                cache = model(input_ids=prompt, use_cache=True, logits_to_keep=1).past_key_values
            started = time.perf_counter()
            model(
                input_ids=torch.zeros((rows, tokens), dtype=torch.long),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            seconds.append(time.perf_counter() - started)
        return rows * tokens / min(seconds)

    with torch.inference_mode():
        step, prompt = tokens_per_second(16, 1, before=32), tokens_per_second(1, 256)
    how = f"one thread: {step:.1f} tokens/s in steps of 16 answers, {prompt:.1f} tokens/s in a prompt of 256"
    how += f"; planned with {STEP_SHARE_ON_PROCESSORS}"
    return [figure("step-share-on-this-processor", step / prompt, "fraction", None, "higher", peer=None, how=how)]


def described(option: Option) -> str:
    service = option.service
    return (
        f"{option.kind}: {service.replicas} x {option.offer.instance_type} in {option.offer.region}, "
        f"{option.usd_per_month:.2f} USD a month, {service.tokens_per_second:.1f} tokens/s, "
        f"{service.cold_fraction:.1%} cold"
    )


def main() -> None:
    print_report("endpoint_plans", latency() + costs() + thin_products())


if __name__ == "__main__":
    main()
