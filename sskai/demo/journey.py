"""The main job, step by step, through what a user has: the client, the event stream, and the `openai` package.

A step that does not see what it promises raises NotSeenError. The same journey runs in the tests on a tiny model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import openai

from sskai.client import Client, Document, Event
from sskai.client.documents import Dataset
from sskai.demo.observer import NotSeenError, Observer
from sskai.demo.screen import Screen
from sskai.local.cloud.client import CloudClient
from sskai.money import NANO_PER_USD


@dataclass(frozen=True)
class Scenario:
    """What the journey is about."""

    base_model: str
    dataset_file: Path
    question: str
    familiar: list[str]
    drifted: list[str]
    n_epochs: int = 1
    max_steps: int = 24
    batch_size: int = 8
    sequence_length: int = 128
    checkpoint_interval_steps: int = 4
    learning_rate: float = 1e-3
    interrupt_at_step: int = 9
    notice_seconds: float = 15.0
    step_limit_seconds: float = 240.0
    job_name: str = "small-talk"
    spot_policy: str = "auto"
    max_drift_requests: int = 150
    answer_tokens: int = 48


class Journey:
    """One run of the scenario. `figures` grows with every step."""

    def __init__(
        self,
        client: Client,
        gateway_url: str,
        api_key: str,
        *,
        cloud: CloudClient,
        scenario: Scenario,
        screen: Screen,
        between: Callable[[str], None] = lambda _moment: None,
    ) -> None:
        self.client = client
        self.cloud = cloud
        self.scenario = scenario
        self.screen = screen
        self.figures: Document = {}
        self.events = Observer(client)
        # Tests do harm at named moments; the demo does none.
        self._between = between
        self._openai = openai.OpenAI(base_url=f"{gateway_url}/v1", api_key=api_key, max_retries=5, timeout=120)

    def run(self) -> Document:
        """All steps in order; returns the figures."""
        started = time.monotonic()
        dataset = self.upload()
        job_file = self.job_file(dataset)
        self.plan(job_file)
        job = self.train(job_file)
        self.deploy(job)
        self.receipt(job)
        self.drift()
        self.trace(job)
        self.figures["journey_seconds"] = round(time.monotonic() - started, 1)
        return self.figures

    def upload(self) -> Dataset:
        self.screen.step("1. Register a dataset")
        dataset = self.client.datasets.upload(self.scenario.dataset_file, name=f"{self.scenario.job_name}-chats")
        self.screen.say(
            f"{dataset['rows']} conversations, format {dataset['format']}, {dataset['bytes']:,} bytes -> "
            f"{dataset['id']} version {dataset['version']}"
        )
        self.figures["dataset_rows"] = dataset["rows"]
        self._between("uploaded")
        return dataset

    def job_file(self, dataset: Dataset) -> Document:
        """What `sskai jobs submit -f job.yaml` would read."""
        s = self.scenario
        return {
            "kind": "finetune",
            "name": s.job_name,
            "model": {"base": s.base_model, "method": "lora", "rank": 8},
            "dataset": {"uri": f"dataset://{dataset['name']}/{dataset['version']}", "eval_fraction": 0.05},
            "hyperparameters": {
                "batch_size": s.batch_size,
                "sequence_length": s.sequence_length,
                "learning_rate": s.learning_rate,
                "n_epochs": s.n_epochs,
                "max_steps": s.max_steps,
                "seed": 17,
            },
            "spot_policy": s.spot_policy,
            "budget": {"total_usd": 2},
            "deadline": "6h",
            "checkpoint": {"interval": s.checkpoint_interval_steps, "keep": 3},
        }

    def plan(self, job_file: Document) -> None:
        self.screen.step("2. Ask for a plan (nothing is spent)")
        started = time.monotonic()
        plan = self.client.plans.create(job_file)
        seconds = time.monotonic() - started
        candidates = plan["candidates"]
        rows = [_candidate_row(number, candidate) for number, candidate in enumerate(candidates[:8])]
        columns = ["", "machine", "zone", "kind", "vCPU", "GiB", "$/h", "hours", "total $"]
        self.screen.table("", columns, rows)
        profile = plan["profile"]
        self.screen.say(
            f"{int(profile['parameters']) / 1e6:.1f} M parameters, "
            f"{int(profile['trainable_parameters']) / 1e6:.2f} M trained, "
            f"{profile['flops_per_token'] / 1e9:.2f} GFLOP per token, "
            f"peak memory {int(profile['peak_bytes']) / 2**30:.1f} GiB"
        )
        self.screen.say(plan["explanation"])
        self.screen.say("Prices are the catalogue's; the machine is this computer, which plays the rented one.")
        self.figures |= {
            "plan_seconds": round(seconds, 2),
            "plan_candidates": len(candidates),
            "plan_total_usd": _expected(candidates[0]["total_usd"]),
            "plan_snapshot": plan["snapshot_hash"],
        }
        self._between("planned")

    def train(self, job_file: Document) -> Document:
        s, see = self.scenario, self.events
        self.screen.step("3. Train on a spot machine, and lose it in the middle")
        job = self.client.jobs.create(job_file)
        job_id = job["id"]
        self._between("submitted")
        with self.screen.training(s.max_steps) as bar:

            def show(event: Event) -> None:
                if event.type == "AttemptProgressed" and event.subject == job_id:
                    bar.show(event.data)

            started = see.wait("AttemptStarted", job_id=job_id, limit_seconds=s.step_limit_seconds)
            place = started["placement"]
            bar.say(
                f"attempt 1 on {place['instance_type']} in {place['zone']}, {place['price_usd_per_hour']:.4f} $/h spot"
            )
            see.wait(
                "AttemptProgressed",
                job_id=job_id,
                limit_seconds=s.step_limit_seconds,
                where=lambda data: data.get("phase") == "training" and data.get("step", 0) >= s.interrupt_at_step,
                meanwhile=show,
            )
            if s.notice_seconds == 0:  # only what is committed is safe then
                see.wait("CheckpointCommitted", job_id=job_id, limit_seconds=s.step_limit_seconds, meanwhile=show)
            self._between("training")
            interrupted_at = time.monotonic()
            self.cloud.interrupt(started["machine_id"], s.notice_seconds)
            bar.say(
                f"[yellow]the market takes {started['machine_id']}: "
                f"{s.notice_seconds:g} s notice, then kill -9[/yellow]"
            )
            noticed = see.wait("JobRequeued", job_id=job_id, limit_seconds=s.notice_seconds + 60, meanwhile=show)
            self._between("requeued")
            bar.say(f"requeued ({noticed['reason']}) with {noticed.get('steps_done', 0)} steps safe")
            resumed = see.wait("AttemptResumed", job_id=job_id, limit_seconds=s.step_limit_seconds, meanwhile=show)
            recovery, from_step = time.monotonic() - interrupted_at, int(resumed.get("from_step", 0))
            bar.say(
                f"[green]attempt {resumed['attempt']} goes on after step {from_step}: "
                f"{resumed.get('lost_steps', 0)} steps lost, {resumed.get('gap_seconds', 0):.1f} s gap[/green]"
            )
            self._between("resumed")
            succeeded = see.wait("JobSucceeded", job_id=job_id, limit_seconds=s.step_limit_seconds * 2, meanwhile=show)
        version = see.wait("ModelVersionReady", job_id=job_id, limit_seconds=90)
        before, after = succeeded["eval_loss_before"], succeeded["eval_loss_after"]
        self.screen.say(
            f"held-out loss {before:.3f} -> {after:.3f}; {version['name']} version {version['version']} is ready"
        )
        committed = see.seen("CheckpointCommitted", job_id=job_id)
        self.figures |= {
            "job_id": job_id,
            "steps": succeeded["steps"],
            "tokens": int(succeeded["tokens"]),
            "eval_loss_before": before,
            "eval_loss_after": after,
            "attempts": int(resumed["attempt"]),
            "resumed_from_step": from_step,
            "lost_steps": int(resumed.get("lost_steps", 0)),
            "gap_seconds": round(resumed.get("gap_seconds", 0.0), 1),
            "notice_to_new_step_seconds": round(recovery, 1),
            "checkpoints": len(committed),
            "checkpoint_stall_seconds_total": round(sum(one.get("stall_seconds", 0.0) for one in committed), 3),
            "model_version": int(version["version"]),
        }
        return self.client.jobs.get(job_id) | {
            "id": job_id,
            "model_name": version["name"],
            "version": version["version"],
        }

    def deploy(self, job: Document) -> None:
        s = self.scenario
        self.screen.step("4. Deploy it, and ask the base and the tuned model the same question")
        tuned_name, base_name = f"{s.job_name}-tuned", f"{s.job_name}-base"
        base = self.client.endpoints.create(base_name, s.base_model, sample_rate=0.0)
        tuned = self.client.endpoints.create(tuned_name, f"{job['model_name']}@{job['version']}", sample_rate=1.0)
        self._between("deploying")
        for endpoint in (base, tuned):
            ready = self.client.endpoints.wait(endpoint["id"], limit_seconds=240)
            if ready["state"] != "ready":
                raise NotSeenError(f"the endpoint {endpoint['id']} is {ready['state']}: {ready.get('reason')}")
        self._between("deployed")
        loaded = {one["endpoint_id"]: one.get("load_seconds", 0.0) for one in self.events.seen("EndpointReady")}
        answers = {}
        for name in (base_name, tuned_name):
            started = time.monotonic()
            answers[name] = self.ask(name, s.question, s.answer_tokens)
            self.figures[f"answer_seconds_{name.rsplit('-', 1)[1]}"] = round(time.monotonic() - started, 2)
        self.screen.say(f"[bold]{s.question}[/bold]")
        self.screen.say(f"base:  {_one_line(answers[base_name])}")
        self.screen.say(f"tuned: {_one_line(answers[tuned_name])}")
        if answers[base_name] == answers[tuned_name]:
            raise NotSeenError("the tuned model answers like its base: the adapter is not in use")
        self.figures |= {
            "answer_base": answers[base_name],
            "answer_tuned": answers[tuned_name],
            "endpoint_load_seconds": round(loaded.get(tuned["id"], 0.0), 2),
            "endpoint_id": tuned["id"],
        }

    def ask(self, model: str, question: str, tokens: int) -> str:
        answer = self._openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], max_tokens=tokens, temperature=0
        )
        return answer.choices[0].message.content or ""

    def receipt(self, job: Document) -> None:
        self.screen.step("5. The receipt")
        receipt = self.events.wait("ReceiptIssued", job_id=job["id"], limit_seconds=60)
        paid, on_demand, lost = (
            int(receipt.get(name, 0)) / NANO_PER_USD
            for name in ("paid_nano_usd", "on_demand_nano_usd", "lost_nano_usd")
        )
        rows = [
            ["paid (spot)", f"{paid:.6f} $", f"{receipt['machine_seconds']:.1f} s on {receipt['attempts']} machines"],
            ["of it lost work", f"{lost:.6f} $", f"{receipt.get('lost_seconds', 0):.1f} s"],
            ["of it overhead", "", f"{receipt.get('overhead_seconds', 0):.1f} s of start-up and restart"],
            ["the same work on demand", f"{on_demand:.6f} $", "one machine of the same type, no interruption"],
            ["saving", f"{receipt.get('saving_fraction', 0):.1%}", "1 - paid / on demand"],
        ]
        self.screen.table("", ["", "amount", "for"], rows)
        self.figures |= {
            "paid_usd": paid,
            "lost_work_usd": lost,
            "on_demand_usd": on_demand,
            "saving_fraction": receipt.get("saving_fraction", 0.0),
            "receipt_intervals": receipt["intervals"],
            "interruptions": receipt.get("interruptions", 0),
        }

    def drift(self) -> None:
        s, see = self.scenario, self.events
        self.screen.step("6. Traffic drifts until the monitor asks for a retrain")
        model, endpoint_id = f"{s.job_name}-tuned", self.figures["endpoint_id"]
        for prompt in islice(cycle(s.familiar), 10):
            self.ask(model, prompt, 4)
        if see.seen("DriftDetected", endpoint_id=endpoint_id):
            raise NotSeenError("drift was detected on traffic that does not drift")
        self.screen.say("10 requests like the training data: no drift")
        self._between("drifting")
        sent = 0
        for sent, prompt in enumerate(islice(cycle(s.drifted), s.max_drift_requests), 1):  # noqa: B007
            self.ask(model, prompt, 4)
            if see.seen("DriftDetected", endpoint_id=endpoint_id):
                break
        drifted = see.wait("DriftDetected", endpoint_id=endpoint_id, limit_seconds=60)
        self.screen.say(
            f"{sent} requests on other topics: {drifted['test']} on {drifted['signal']} reached "
            f"{drifted['statistic']:.1f} (threshold {drifted['threshold']:g})"
        )
        wanted = see.wait("RetrainRequested", endpoint_id=endpoint_id, limit_seconds=60)
        submitted = see.wait(
            "JobSubmitted",
            limit_seconds=60,
            where=lambda data: data["spec"].get("retrain_of", {}).get("endpoint_id") == endpoint_id,
        )
        see.wait("AttemptStarted", job_id=submitted["job_id"], limit_seconds=120)
        self.screen.say(
            f"retrain {wanted['retrain_id']} -> {submitted['job_id']} was started; cancelling it, the point is made"
        )
        self.client.jobs.cancel(submitted["job_id"])
        see.wait("JobCancelled", job_id=submitted["job_id"], limit_seconds=120)
        self.figures |= {
            "drift_requests": sent,
            "drift_statistic": drifted["statistic"],
            "drift_threshold": drifted["threshold"],
            "retrain_job_id": submitted["job_id"],
        }

    def trace(self, job: Document) -> None:
        from sskai.demo.tree import draw

        self.screen.step("7. One trace, from the request to the trained model")
        wanted = {"gateway", "optimizer", "scheduler", "trainer"}
        deadline = time.monotonic() + 30
        while True:
            tree = self.client.jobs.trace(job["id"])
            missing = wanted - {span["service"] for span in tree["spans"]}
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        self.screen.tree(draw(tree))
        if missing:
            raise NotSeenError(f"the trace has no spans of {', '.join(sorted(missing))}")
        self.figures |= {"trace_id": tree["trace_id"], "trace_spans": len(tree["spans"])}


def _expected(estimate: Any) -> float:
    return float(estimate["expected"] if isinstance(estimate, dict) else estimate)


def _candidate_row(number: int, candidate: Document) -> list[str]:
    place = candidate["placement"]
    return [
        "chosen" if number == 0 else "",
        place["instance_type"],
        f"{place['region']} {place['zone']}",
        "spot" if "SPOT" in str(place["capacity_type"]).upper() else "on-demand",
        str(place["vcpus"]),
        f"{place['memory_gib']:g}",
        f"{place['price_usd_per_hour']:.4f}",
        f"{_expected(candidate['hours']):.3f}",
        f"{_expected(candidate['total_usd']):.4f}",
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
