"""Rows of the ledger as FOCUS 1.2 cost and usage records (FinOps Open Cost and Usage Specification, June 2025). Pure.

https://focus.finops.org/focus-specification/v1-2/, "Cost and Usage: Columns", says what each column means, whether it
must be there and whether it may be null; `COLUMNS` is that list for what a provider of this kind has to tell: it has no
commitment discounts, capacity reservations, negotiated prices or other currencies, so those conditional columns are
left out. Custom columns begin with `x_` ("Attributes: Column Naming and Ordering").

    BilledCost = EffectiveCost = ContractedCost = what was paid     ContractedUnitPrice = the observed price
    ListCost = the same time at the on-demand price                 ListUnitPrice = the on-demand price

A spot price is PricingCategory "Dynamic". A row that takes back what was told before is ChargeClass "Correction".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from services.monitor.storage import COMPUTE, EGRESS, STORAGE
from sskai.money import NANO_PER_USD

_HOUR = timedelta(hours=1)
_PLACES = Decimal("1e-12")
VERSION = "1.2"


class Type(StrEnum):
    STRING = "String"
    DECIMAL = "Decimal"
    TIME = "Date/Time"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Column:
    """`level` as the specification has it: Mandatory, Conditional or Recommended; Custom for `x_` columns."""

    name: str
    type: Type
    nullable: bool
    level: str
    value: Callable[[Charge], Any]


@dataclass(frozen=True, slots=True)
class Charge:
    """A row of the ledger (`row`: SpendRow's columns) with its owner's name and project."""

    row: Any
    owner_name: str
    project: str

    @property
    def kind(self) -> str:
        return str(self.row.kind)

    @property
    def quantity(self) -> Decimal:
        """Hours of all its machines, GB-months or GB."""
        if self.kind != COMPUTE:
            return Decimal(str(self.row.quantity)).quantize(_PLACES)
        hours = Decimal(str((self.row.ended_at - self.row.started_at) / _HOUR))
        return (hours * int(self.row.machines)).quantize(_PLACES)

    @property
    def cost(self) -> Decimal:
        return Decimal(int(self.row.amount_nano_usd)) / NANO_PER_USD

    @property
    def list_cost(self) -> Decimal:
        return Decimal(int(self.row.on_demand_nano_usd)) / NANO_PER_USD

    def unit_price(self, cost: Decimal) -> Decimal | None:
        return (cost / self.quantity).quantize(_PLACES) if self.quantity else None

    @property
    def month(self) -> tuple[datetime, datetime]:
        first = self.row.started_at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return first, (first + timedelta(days=32)).replace(day=1)

    @property
    def on_aws(self) -> bool:
        return bool(self.row.cloud == "aws")

    @property
    def provider(self) -> str:
        return "Amazon Web Services" if self.on_aws else "SSKAI"

    @property
    def service(self) -> str:
        return _SERVICES[self.kind][0 if self.on_aws else 1]

    @property
    def sku(self) -> str:
        what = self.row.instance_type if self.kind == COMPUTE else self.kind
        return "/".join(part for part in (self.row.cloud or "local", self.row.region, what) if part)

    @property
    def resource(self) -> str:
        return str(self.row.machine_id or self.row.job_id) if self.kind == COMPUTE else str(self.row.job_id)

    @property
    def described(self) -> str:
        row, owner = self.row, f"endpoint {self.row.endpoint_id}" if self.row.endpoint_id else f"job {self.row.job_id}"
        if self.kind == STORAGE:
            return f"Object storage of {row.job_id}"
        if self.kind == EGRESS:
            return f"Traffic between regions of {owner}"
        machines = f"{row.machines} x " if row.machines > 1 else ""
        return f"{machines}{row.instance_type} {row.capacity_type} in {row.zone} for {owner}, attempt {row.attempt}"

    @property
    def tags(self) -> str:
        # Tags of the provider's own carry its prefix ("Columns: Tags").
        given = {"sskai/owner": self.owner_name, "sskai/project": self.project, "sskai/kind": self.kind}
        return json.dumps({name: value for name, value in given.items() if value}, separators=(",", ":"))


_SERVICES = {
    COMPUTE: ("Amazon Elastic Compute Cloud", "SSKAI machines"),
    STORAGE: ("Amazon Simple Storage Service", "SSKAI object store"),
    EGRESS: ("AWS Data Transfer", "SSKAI network"),
}
_CATEGORIES = {
    COMPUTE: ("Compute", "Virtual Machines"),
    STORAGE: ("Storage", "Object Storage"),
    EGRESS: ("Networking", "Other (Networking)"),
}
_METERS = {COMPUTE: "Machine time", STORAGE: "Bytes kept", EGRESS: "Bytes moved between regions"}
_TYPES = {COMPUTE: "Machine", STORAGE: "Object", EGRESS: "Transfer"}


def _unit(charge: Charge) -> str:
    return "Hours" if charge.kind == COMPUTE else str(charge.row.unit)


def _always(value: str | None) -> Callable[[Charge], str | None]:
    return lambda _charge: value


def _spot(charge: Charge) -> bool:
    return bool(charge.row.capacity_type == "spot") and charge.kind == COMPUTE


def _column(name: str, type_: Type, nullable: bool, level: str, value: Callable[[Charge], Any]) -> Column:
    return Column(name, type_, nullable, level, value)


_M, _C, _R, _X = "Mandatory", "Conditional", "Recommended", "Custom"
_S, _D, _T, _J = Type.STRING, Type.DECIMAL, Type.TIME, Type.JSON

# (name, type, may be null, level, value). "Column Naming and Ordering" leaves the order free: by name, `x_` ones last.
COLUMNS: tuple[Column, ...] = tuple(
    _column(*one)
    for one in (
        ("AvailabilityZone", _S, True, _R, lambda c: c.row.zone if c.row.zone not in {"", "*"} else None),
        ("BilledCost", _D, False, _M, lambda c: c.cost),
        ("BillingAccountId", _S, False, _M, lambda c: c.row.tenant_id),
        ("BillingAccountName", _S, True, _M, _always(None)),
        ("BillingCurrency", _S, False, _M, _always("USD")),
        ("BillingPeriodEnd", _T, False, _M, lambda c: c.month[1]),
        ("BillingPeriodStart", _T, False, _M, lambda c: c.month[0]),
        ("ChargeCategory", _S, False, _M, _always("Usage")),
        ("ChargeClass", _S, True, _M, lambda c: "Correction" if c.row.amount_nano_usd < 0 else None),
        ("ChargeDescription", _S, True, _M, lambda c: c.described),
        ("ChargeFrequency", _S, False, _R, _always("Usage-Based")),
        ("ChargePeriodEnd", _T, False, _M, lambda c: c.row.ended_at),
        ("ChargePeriodStart", _T, False, _M, lambda c: c.row.started_at),
        ("ConsumedQuantity", _D, True, _C, lambda c: c.quantity),
        ("ConsumedUnit", _S, True, _C, _unit),
        ("ContractedCost", _D, False, _M, lambda c: c.cost),
        ("ContractedUnitPrice", _D, True, _C, lambda c: c.unit_price(c.cost)),
        ("EffectiveCost", _D, False, _M, lambda c: c.cost),
        ("InvoiceId", _S, True, _R, _always(None)),
        ("InvoiceIssuerName", _S, False, _M, lambda c: c.provider),
        ("ListCost", _D, False, _M, lambda c: c.list_cost),
        ("ListUnitPrice", _D, True, _C, lambda c: c.unit_price(c.list_cost)),
        ("PricingCategory", _S, True, _C, lambda c: "Dynamic" if _spot(c) else "Standard"),
        ("PricingQuantity", _D, True, _M, lambda c: c.quantity),
        ("PricingUnit", _S, True, _M, _unit),
        ("ProviderName", _S, False, _M, lambda c: c.provider),
        ("PublisherName", _S, False, _M, lambda c: c.provider),
        ("RegionId", _S, True, _C, lambda c: c.row.region or None),
        ("RegionName", _S, True, _C, lambda c: c.row.region or None),
        ("ResourceId", _S, True, _C, lambda c: c.resource),
        ("ResourceName", _S, True, _C, lambda c: c.owner_name or None),
        ("ResourceType", _S, True, _C, lambda c: _TYPES[c.kind]),
        ("ServiceCategory", _S, False, _M, lambda c: _CATEGORIES[c.kind][0]),
        ("ServiceName", _S, False, _M, lambda c: c.service),
        ("ServiceSubcategory", _S, False, _R, lambda c: _CATEGORIES[c.kind][1]),
        ("SkuId", _S, True, _C, lambda c: c.sku),
        ("SkuMeter", _S, True, _C, lambda c: _METERS[c.kind]),
        ("SkuPriceId", _S, True, _C, lambda c: f"{c.sku}/{c.row.capacity_type}" if c.kind == COMPUTE else c.sku),
        ("SubAccountId", _S, True, _C, lambda c: c.project or None),
        ("SubAccountName", _S, True, _C, lambda c: c.project or None),
        ("Tags", _J, True, _C, lambda c: c.tags),
        ("x_Attempt", _D, True, _X, lambda c: Decimal(c.row.attempt) if c.kind == COMPUTE else None),
        ("x_EndpointId", _S, True, _X, lambda c: c.row.endpoint_id or None),
        ("x_InputTokens", _D, True, _X, lambda c: Decimal(c.row.input_tokens) if c.row.endpoint_id else None),
        ("x_Interval", _D, False, _X, lambda c: Decimal(c.row.interval)),
        ("x_JobId", _S, True, _X, lambda c: None if c.row.endpoint_id else c.row.job_id),
        ("x_OutputTokens", _D, True, _X, lambda c: Decimal(c.row.output_tokens) if c.row.endpoint_id else None),
    )
)


def record(charge: Charge) -> dict[str, Any]:
    """One record: by column, a string, a Decimal, a time in UTC, or None."""
    return {column.name: column.value(charge) for column in COLUMNS}
