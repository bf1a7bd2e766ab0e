"""A loss curve in bounded memory that does not depend on the order in which its points come. Pure."""

from __future__ import annotations

from pydantic import BaseModel

MAX_POINTS = 128


class Curve(BaseModel):
    """At most MAX_POINTS points: of each `stride` steps the first one. The stride doubles when they become too many."""

    stride: int = 1
    points: dict[int, tuple[int, float]] = {}  # step // stride -> (step, loss)

    def add(self, step: int, loss: float) -> Curve:
        """The curve with one more point; of two losses for one step the smaller stands, in any order."""
        stride, points = self.stride, _thinned([*self.points.values(), (step, loss)], self.stride)
        while len(points) > MAX_POINTS:
            stride *= 2
            points = _thinned(list(points.values()), stride)
        return Curve(stride=stride, points=points)


def _thinned(points: list[tuple[int, float]], stride: int) -> dict[int, tuple[int, float]]:
    first: dict[int, tuple[int, float]] = {}
    for point in sorted(points, reverse=True):  # the smallest of a bucket is written last
        first[point[0] // stride] = point
    return dict(sorted(first.items()))
