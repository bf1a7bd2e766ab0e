"""What classifiers of texts and of pictures share: each sample has one class, and the model a score for every class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch


class Labelled(Protocol):
    """A sample and the number of its class."""

    @property
    def label(self) -> int: ...


Labelled_contra = TypeVar("Labelled_contra", bound=Labelled, contravariant=True)


class NamesClasses(ABC, Generic[Labelled_contra]):
    """Those parts of a `training.Task` that follow from the scores."""

    @abstractmethod
    def scores(self, samples: Sequence[Labelled_contra]) -> torch.Tensor:
        """(samples, classes), before the softmax."""

    def loss(self, samples: Sequence[Labelled_contra]) -> torch.Tensor:
        return _entropy(self.scores(samples), samples)

    def graded(self, samples: Sequence[Labelled_contra]) -> tuple[torch.Tensor, int]:
        scores = self.scores(samples)
        right = sum(named == sample.label for named, sample in zip(scores.argmax(1).tolist(), samples, strict=True))
        return _entropy(scores, samples), right

    def targets(self, samples: Sequence[Labelled_contra]) -> int:
        return len(samples)


def _entropy(scores: torch.Tensor, samples: Sequence[Labelled]) -> torch.Tensor:
    expected = torch.tensor([sample.label for sample in samples], device=scores.device)
    return torch.nn.functional.cross_entropy(scores.float(), expected, reduction="sum")


def classes(labels: Sequence[str]) -> dict[str, Any]:
    """A configuration's words for them."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: index for index, name in enumerate(labels)},
    }
