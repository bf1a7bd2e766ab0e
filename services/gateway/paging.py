"""Which page of a list: where it begins, which way it goes, and between which times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, asc, desc


@dataclass(frozen=True, slots=True)
class Paging:
    """`after`: the id that the page before ended with. Ids rise with the time at which they were drawn."""

    limit: int = 20
    after: str | None = None
    ascending: bool = False
    created_after: datetime | None = None
    created_before: datetime | None = None

    def of(self, query: Select[Any], id_column: Any, created_column: Any) -> Select[Any]:
        """The page, and one row more if there is one: by that it is known that there are more."""
        if self.created_after is not None:
            query = query.where(created_column > self.created_after)
        if self.created_before is not None:
            query = query.where(created_column < self.created_before)
        if self.after is not None:
            query = query.where(id_column > self.after if self.ascending else id_column < self.after)
        return query.order_by((asc if self.ascending else desc)(id_column)).limit(self.limit + 1)
