"""Pictures of 8 x 8 pixels in ten classes: each class is a pattern of its own under noise, the same in every run."""

import torch
from torch.utils.data import Dataset

CLASSES = 10


class Pictures(Dataset):
    def __init__(self, count: int, seed: int) -> None:
        patterns = torch.randn(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(CLASSES, (count,), generator=generator)
        self.pictures = patterns[self.labels] + 0.5 * torch.randn(count, 1, 8, 8, generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pictures[index], self.labels[index]


def datasets() -> tuple[Dataset, Dataset]:
    return Pictures(1_000, seed=1), Pictures(200, seed=2)
