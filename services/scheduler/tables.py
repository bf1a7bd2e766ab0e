"""Every table of the service, under one roof for who compares them with the migrations."""

from services.scheduler.market_store import OfferRow
from services.scheduler.queue_store import QueueRow
from services.scheduler.store import Base, BudgetRow

__all__ = ["Base", "BudgetRow", "OfferRow", "QueueRow"]
