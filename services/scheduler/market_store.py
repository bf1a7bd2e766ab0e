"""The table of spot offers: what was last seen of each. Shared by all jobs; written in the transaction that saw it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import DateTime, Float, Text, delete, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from services.scheduler.availability import Model
from services.scheduler.market import Market, Sight
from services.scheduler.store import Base
from sskai.database import Database

FORGET_DAYS = 30  # by then a belief says nothing that the priors do not


class OfferRow(Base):
    __tablename__ = "spot_offers"

    offer: Mapped[str] = mapped_column(Text, primary_key=True)
    priors: Mapped[str] = mapped_column(Text)  # whose states the belief is about
    belief: Mapped[list[float]] = mapped_column(ARRAY(Float))
    available: Mapped[bool]
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


class MarketStore:
    """Offers within one transaction."""

    def __init__(self, session: AsyncSession, model: Model) -> None:
        self._session = session
        self._model = model

    async def market(self, offers: Iterable[str]) -> Market:
        """These offers as last seen. What was believed by other priors is left out."""
        rows = await self._session.scalars(select(OfferRow).where(OfferRow.offer.in_(sorted(set(offers)))))
        priors = fingerprint(self._model)
        sights = {
            row.offer: Sight(np.array(row.belief), row.seen_at, row.available) for row in rows if row.priors == priors
        }
        return Market(self._model, sights)

    async def saw(self, offer: str, available: bool, now: datetime, *, all_the_while: bool = False) -> None:
        """Write down a look at an offer. Two at the same moment: the later one stands."""
        market = await self.market([offer])
        sight = market.seen(offer, available, now, all_the_while=all_the_while)
        if sight is None:
            return
        values = {
            "offer": offer,
            "priors": fingerprint(self._model),
            "belief": [float(share) for share in sight.belief],
            "available": sight.available,
            "seen_at": sight.seen_at,
        }
        statement = upsert(OfferRow).values(**values)
        changed = {name: statement.excluded[name] for name in values if name != "offer"}
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["offer"], set_=changed, where=OfferRow.seen_at <= statement.excluded.seen_at
            )
        )


async def forget_old_offers(database: Database, now: datetime) -> None:
    """Offers that nobody has seen for long."""
    async with database.transaction() as session:
        await session.execute(delete(OfferRow).where(OfferRow.seen_at < now - timedelta(days=FORGET_DAYS)))


def fingerprint(model: Model) -> str:
    """Which priors a belief belongs to."""
    return hashlib.sha256(np.round(model.generator * 3600, 6).tobytes()).hexdigest()[:16]
