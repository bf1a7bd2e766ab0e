"""The service starts quickly: torch is imported by the first load, in a thread."""

from __future__ import annotations

import subprocess
import sys


def test_the_service_is_imported_without_torch() -> None:
    code = "import sys, services.inference.main; print('torch' in sys.modules or 'transformers' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
