"""`python -m sskai.demo [--json]`: exit code 0 only if all of it was seen to happen."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from sskai.client import Client, SskaiError
from sskai.demo import corpus
from sskai.demo.journey import Journey, Scenario
from sskai.demo.observer import NotSeenError
from sskai.demo.screen import Screen
from sskai.local import stack, weights
from sskai.local.cloud.client import CloudClient
from sskai.local.paths import home_folder
from sskai.local.processes import StartError

BASE_MODEL = "smollm2-135m-instruct"
QUESTION = "What is AI?"


def main() -> int:
    parser = argparse.ArgumentParser(description="The main job end to end on the embedded stack.")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every figure at the end")
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    arguments = parser.parse_args()
    screen = Screen(quiet=arguments.json)
    started = time.monotonic()
    # A stack of its own, so that a demo never touches what the user runs, or finds what an earlier one left.
    home = home_folder().with_name(home_folder().name + "-demo")
    figures: dict[str, object] = {}
    try:
        screen.step("0. Set up")
        folder = weights.fetch()
        screen.say(f"SmolLM2-135M-Instruct (Apache-2.0) in {folder}")
        stack.down(home, purge=home.exists(), say=lambda _text: None)
        state = stack.up(home, say=screen.say)
        figures["stack_up_seconds"] = round(time.monotonic() - started, 1)
        with tempfile.TemporaryDirectory() as work:
            data = Path(work) / "chats.jsonl"
            corpus.write_training_file(data)
            scenario = Scenario(
                base_model=BASE_MODEL,
                dataset_file=data,
                question=QUESTION,
                familiar=corpus.familiar_prompts(),
                drifted=corpus.drifted_prompts(),
            )
            with Client(state.gateway_url, state.admin_key) as client:
                cloud = CloudClient(state.environment["SSKAI_CLOUD_URL"], state.environment["SSKAI_CLOUD_TOKEN"])
                figures |= Journey(
                    client, state.gateway_url, state.admin_key, cloud=cloud, scenario=scenario, screen=screen
                ).run()
        figures["seen"] = True
    except (NotSeenError, SskaiError, StartError, TimeoutError) as error:
        screen.console.print(f"\n[bold red]The demo failed:[/bold red] {error}")
        screen.console.print(f"Logs: SSKAI_HOME={home} sskai logs scheduler (or another part)")
        figures |= {"seen": False, "failure": str(error)}
    finally:
        if not arguments.keep:
            screen.step("8. Stop")
            stack.down(home, say=screen.say)
    figures["total_seconds"] = round(time.monotonic() - started, 1)
    figures["machine"] = {"cores": os.cpu_count(), "prices": "catalogue", "machines": "this computer"}
    if figures["seen"]:
        screen.say(f"[green]All of it was seen to happen, in {figures['total_seconds']} s.[/green]")
    if arguments.json:
        print(json.dumps(figures, indent=2, default=str))
    return 0 if figures["seen"] else 1


if __name__ == "__main__":
    sys.exit(main())
