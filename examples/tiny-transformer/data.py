"""Pieces of text.txt, a character a token: what stands at each place, and what follows it."""

from pathlib import Path

import torch
from model import CHARACTERS, CONTEXT
from torch.utils.data import Dataset

STRIDE = 16
FIRST = ord(" ")


class Pieces(Dataset):
    def __init__(self, text: str) -> None:
        self.codes = torch.tensor([min(max(ord(each) - FIRST, 0), CHARACTERS - 1) for each in text])

    def __len__(self) -> int:
        return (len(self.codes) - CONTEXT - 1) // STRIDE

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        piece = self.codes[index * STRIDE : index * STRIDE + CONTEXT + 1]
        return piece[:-1], piece[1:]


def datasets() -> tuple[Dataset, Dataset]:
    text = Path(__file__).with_name("text.txt").read_text(encoding="utf-8").replace("\n", " ")
    kept = len(text) * 9 // 10
    return Pieces(text[:kept]), Pieces(text[kept:])
