"""Users' own models as the trainer publishes them: a folder with code, weights and `sskai.json`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.scale
"""
DATA = """
import torch

def datasets():
    rows = torch.arange(12.0).reshape(4, 3)
    return torch.utils.data.TensorDataset(rows, rows), torch.utils.data.TensorDataset(rows, rows)
"""
SIGNATURE = {
    "takes": "input",
    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 3]}],
}
# Builds the model in a process of its own, as a job's pod does; weights drawn, not learnt.
PUBLISHING = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from sskai import usermodel, usermodel_signature
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
torch.manual_seed(3)
own = usermodel.build(folder)
about = json.loads((folder / "sskai.json").read_text())
if sys.argv[2] == "signed":
    about["signature"] = usermodel_signature.learn(own)
(folder / "sskai.json").write_text(json.dumps(about))
named = usermodel.named_tensors(own.model)
save_file({name: value.detach().clone() for name, value in named.items()}, folder / "weights.safetensors")
own.model.eval()
example = usermodel.stacked([usermodel.the_sample(own.held_out, at)[0] for at in range(2)], "input")
with torch.no_grad():
    output = usermodel.called(own.model, example)
print(json.dumps({"inputs": example.tolist(), "shape": list(example.shape), "outputs": output.tolist()}))
"""


def write(folder: Path, *, model: str = MODEL, data: str = DATA, signature: object = SIGNATURE) -> Path:
    """A model whose code is this, without building it; `scale` of its weights is 3."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "model.py").write_text(model)
    (folder / "data.py").write_text(data)
    save_file({"scale": torch.tensor(3.0)}, folder / "weights.safetensors")
    _declare(folder, {} if signature is None else {"signature": signature})
    return folder


def build_example(name: str, folder: Path, *, signed: bool = True) -> dict[str, list[object]]:
    """One of examples/ as a version; two of its samples and what its own `forward` makes of them."""
    shutil.copytree(EXAMPLES / name, folder)
    for unknown in (folder / "job.yaml", folder / "README.md"):
        unknown.unlink()
    _declare(folder, {})
    done = subprocess.run(
        [sys.executable, "-B", "-c", PUBLISHING, str(folder), "signed" if signed else "unsigned"],
        env={"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


def _declare(folder: Path, more: dict[str, object]) -> None:
    sources = sorted(path.name for path in folder.iterdir() if path.suffix == ".py")
    about = {"kind": "own-model", "method": "scratch", "sources": sources, **more}
    (folder / "sskai.json").write_text(json.dumps(about))
