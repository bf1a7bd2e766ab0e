"""A replica's process that has no weights: it speaks the interface and nothing else. `python stand_in.py`."""

import json
import os
import signal
import sys
import threading
import urllib.request

leaving = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: leaving.set())


def say(**words):
    home, name = os.environ["SSKAI_REPLICA_HOME"], os.environ["SSKAI_REPLICA_ID"]
    request = urllib.request.Request(
        f"{home}/internal/replicas/{name}",
        json.dumps(words).encode(),
        {"Authorization": f"Bearer {os.environ['SSKAI_REPLICA_TOKEN']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5):
        pass


url = f"http://127.0.0.1:{os.getpid() % 60000 + 1024}"
while not leaving.is_set():
    say(state="ready", url=url, load_seconds=0.1, active=0, waiting=0, tokens_per_second=0)
    leaving.wait(0.2)
say(state="draining", url=url)
sys.exit(0)
