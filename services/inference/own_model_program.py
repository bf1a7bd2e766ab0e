"""A user's own model, answering behind walls: the program that `own_models.py` starts. `PROGRAM FOLDER`.

It builds the model of the folder's model.py, puts weights.safetensors into it, and answers frames
(`own_model_frames.py`) from standard input until that ends. What the user's code prints goes to standard error. Of the
service it knows nothing, and the service believes none of its answers unchecked.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from safetensors.torch import load, load_file, save

from services.inference import own_model_frames as frames
from sskai import usermodel, usermodel_signature
from sskai.usermodel import WEIGHTS, UserError

DECLARATION = "sskai.json"


def build(folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """(the model with its weights, its signature). Raises UserError, or what the user's code raises."""
    about = json.loads((folder / DECLARATION).read_bytes())
    signature = about.get(usermodel_signature.KEY)
    if signature is None:
        # A version of before signatures were written: its data tell, if they lie beside it.
        own = usermodel.build(folder)
        model = own.model
    else:
        own, model = None, usermodel.the_model_class(usermodel.load(folder, "model"))()
        usermodel.check_weights(folder, model)
    usermodel.take(model, load_file(folder / WEIGHTS))
    if own is not None:
        signature = usermodel_signature.learn(own)
    return model.eval(), signature


def answer(model: Any, signature: Mapping[str, Any], payload: bytes) -> bytes:
    """A question's tensors to its answer's."""
    types = {each["name"]: usermodel_signature.TYPES[each["datatype"]] for each in signature["inputs"]}
    named = {name: tensor.to(types[name]) for name, tensor in load(payload).items()}
    with torch.no_grad():
        output = usermodel.called(model, usermodel_signature.rebuilt(signature["takes"], named))
    told = usermodel_signature.told(output)
    if told.dtype not in usermodel_signature.DATATYPES:
        raise UserError(f"model.py: forward() gives {told.dtype}: the Open Inference Protocol has no name for that")
    # A copy: a view into a larger storage is a tensor of its own in a frame.
    return bytes(save({usermodel_signature.OUTPUT: told.clone()}))


def main() -> NoReturn:
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    # The user's prints must not mix with the answers, nor its reads take the questions.
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    try:
        model, signature = build(folder)
    except BaseException as error:  # SystemExit too: whatever the user's code raises is theirs to read
        _tell(answers, frames.ERROR, _json({"error": usermodel.explained(error, folder, advised=False)}))
        os._exit(0)
    _tell(answers, frames.READY, _json({usermodel_signature.KEY: signature}))
    while len(head := questions.read(frames.HEAD.size)) == frames.HEAD.size:
        payload = questions.read(frames.HEAD.unpack(head)[1])
        try:
            kind, told = frames.TENSORS, answer(model, signature, payload)
        except BaseException as error:  # as above
            kind, told = frames.ERROR, _json({"error": usermodel.explained(error, folder, advised=False)})
        _tell(answers, kind, told)
    os._exit(0)


def _tell(answers: BinaryIO, kind: bytes, payload: bytes) -> None:
    answers.write(frames.head(kind, payload) + payload)
    answers.flush()


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


if __name__ == "__main__":
    main()
