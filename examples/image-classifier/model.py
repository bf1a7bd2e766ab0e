"""A classifier of small pictures: two convolutions and a linear layer."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, kernel_size=3, padding=1)
        self.second = nn.Conv2d(8, 16, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        seen = self.pool(torch.relu(self.second(torch.relu(self.first(pictures)))))
        return self.head(seen.flatten(1))
