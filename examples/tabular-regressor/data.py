"""Diabetes patients, as scikit-learn carries them: ten measurements, and how far the disease went in a year."""

import torch
from sklearn.datasets import load_diabetes
from torch.utils.data import Dataset, TensorDataset

HELD_OUT = 64


def datasets() -> tuple[Dataset, Dataset]:
    patients = load_diabetes()
    rows = torch.tensor(patients.data, dtype=torch.float32)
    progress = torch.tensor(patients.target, dtype=torch.float32)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    train, held_out = order[HELD_OUT:], order[:HELD_OUT]
    # Scaled by what is learnt from alone.
    rows = (rows - rows[train].mean(0)) / rows[train].std(0)
    progress = (progress - progress[train].mean()) / progress[train].std()
    return TensorDataset(rows[train], progress[train]), TensorDataset(rows[held_out], progress[held_out])
