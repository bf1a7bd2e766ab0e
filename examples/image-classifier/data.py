"""Handwritten digits of 8 x 8 pixels, as scikit-learn carries them; training pictures are shifted by up to a pixel."""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

HELD_OUT = 360


class Digits(Dataset):
    def __init__(self, pictures: torch.Tensor, labels: torch.Tensor, *, shifted: bool) -> None:
        self.pictures, self.labels, self.shifted = pictures, labels, shifted

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        picture = self.pictures[index]
        if self.shifted:
            # Of torch's own generator, which the platform restores: a resumed run sees the same pictures.
            down, right = (int(each) for each in torch.randint(-1, 2, (2,)))
            picture = torch.roll(picture, (down, right), dims=(1, 2))
        return picture, self.labels[index]


def datasets() -> tuple[Dataset, Dataset]:
    digits = load_digits()
    pictures = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, held_out = order[HELD_OUT:], order[:HELD_OUT]
    return (
        Digits(pictures[train], labels[train], shifted=True),
        Digits(pictures[held_out], labels[held_out], shifted=False),
    )
