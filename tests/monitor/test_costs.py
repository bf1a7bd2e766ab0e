"""Totals and the FOCUS export: every row of the ledger once, in columns as the specification has them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pyarrow as pa
import pytest
from google.protobuf.message import Message
from pyarrow import parquet

from services.monitor import api, focus, money_api
from services.monitor.focus import COLUMNS, Column, Type
from services.monitor.focus_files import SCHEMA
from services.monitor.handlers import HANDLERS
from services.monitor.ingest import Ingest
from services.monitor.store import Store
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle

SERVICE = "monitor"
DAY = datetime(2026, 11, 24, tzinfo=UTC)
SPAN = {"since": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"}
NANO = 10**9

# FOCUS 1.2, "Cost and Usage: Columns": what is Mandatory, by name: (data type, allows nulls).
MANDATORY = {
    "BilledCost": (Type.DECIMAL, False),
    "BillingAccountId": (Type.STRING, False),
    "BillingAccountName": (Type.STRING, True),
    "BillingCurrency": (Type.STRING, False),
    "BillingPeriodEnd": (Type.TIME, False),
    "BillingPeriodStart": (Type.TIME, False),
    "ChargeCategory": (Type.STRING, False),
    "ChargeClass": (Type.STRING, True),
    "ChargeDescription": (Type.STRING, True),
    "ChargePeriodEnd": (Type.TIME, False),
    "ChargePeriodStart": (Type.TIME, False),
    "ContractedCost": (Type.DECIMAL, False),
    "EffectiveCost": (Type.DECIMAL, False),
    "InvoiceIssuerName": (Type.STRING, False),
    "ListCost": (Type.DECIMAL, False),
    "PricingQuantity": (Type.DECIMAL, True),
    "PricingUnit": (Type.STRING, True),
    "ProviderName": (Type.STRING, False),
    "PublisherName": (Type.STRING, False),
    "ServiceCategory": (Type.STRING, False),
    "ServiceName": (Type.STRING, False),
}
# Columns with a closed list of values, "Content Constraints" of each.
ALLOWED: dict[str, set[str | None]] = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {None, "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {None, "Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"Compute", "Storage", "Networking", "AI and Machine Learning", "Other"},
}


def placement(*, spot: bool = True, cloud: str = "aws") -> events.Placement:
    return events.Placement(
        cloud=cloud,
        region="us-east-1",
        zone="use1-az1",
        instance_type="g5.xlarge",
        capacity_type=events.CAPACITY_TYPE_SPOT if spot else events.CAPACITY_TYPE_ON_DEMAND,
        price_usd_per_hour=0.36,
        on_demand_price_usd_per_hour=1.08,
    )


def row(job_id: str, interval: int, start: float, seconds: int = 60, **more: Any) -> events.SpendRecorded:
    """At 0.36 USD an hour, and 1.08 on demand; `start` in hours since the day began."""
    began = DAY + timedelta(hours=start)
    machines = more.get("machines", 1)
    values = {
        "attempt": 1,
        "machine_id": f"i-{job_id}",
        "placement": placement(),
        "price_usd_per_hour": 0.36 * machines,
        "amount_nano_usd": seconds * 100_000 * machines,
        "on_demand_nano_usd": seconds * 300_000 * machines,
        **more,
    }
    return events.SpendRecorded(
        job_id=job_id,
        tenant_id="A",
        interval=interval,
        started_at=timestamp(began),
        ended_at=timestamp(began + timedelta(seconds=seconds)),
        **values,
    )


STORY: list[Message] = [
    events.JobSubmitted(
        job_id="job_1",
        tenant_id="A",
        spec=events.JobSpec(name='=bot,"1"', project="chat"),
        submitted_at=timestamp(DAY),
    ),
    events.EndpointRequested(endpoint_id="endpoint_1", tenant_id="A", name="bot", project="chat"),
    row("job_1", 1, 1),
    row("job_1", 2, 23.999, 7),  # over midnight: it counts in the day in which it begins
    row("job_1", 3, 25, machines=4),
    row("job_2", 1, 2, placement=placement(spot=False, cloud="local"), amount_nano_usd=18_000_000),
    row("endpoint_1", 1, 3, endpoint_id="endpoint_1", input_tokens=1000, output_tokens=500),
    row("dataset_1@1", 1, 0, 86_400, kind="storage", quantity=0.25, unit="GB-Months", amount_nano_usd=5_750_000,
        on_demand_nano_usd=5_750_000, placement=None, machine_id="", price_usd_per_hour=0),
    row("dataset_1@1", 2, 24, 86_400, kind="storage", quantity=-0.05, unit="GB-Months", amount_nano_usd=-1_150_000,
        on_demand_nano_usd=-1_150_000, placement=None, machine_id="", price_usd_per_hour=0),
    row("job_1", 1, 0, 86_400, kind="egress", quantity=3.0, unit="GB", amount_nano_usd=60_000_000,
        on_demand_nano_usd=60_000_000, machine_id="", price_usd_per_hour=0),
]  # fmt: skip
PAID = (60 + 7 + 4 * 60 + 60) * 100_000 + 18_000_000 + 5_750_000 - 1_150_000 + 60_000_000


@pytest.fixture
async def ask(database: Database) -> AsyncIterator[Any]:
    """Ask the monitor as the gateway does, about what STORY has told, twice."""
    for message in (*STORY, *STORY):
        await handle(HANDLERS, database, Store, message, DAY)
    transport = httpx2.ASGITransport(app=api.build(database, Ingest(database), "token"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://monitor") as client:

        async def get(path: str, tenant: str = "A", **params: Any) -> httpx2.Response:
            headers = {"X-SSKAI-Tenant": tenant, "X-SSKAI-Internal": "token"}
            return await client.get(path, params=params, headers=headers)

        yield get


def test_every_mandatory_column_is_there_with_its_type() -> None:
    by_name = {column.name: column for column in COLUMNS}
    assert len(by_name) == len(COLUMNS)
    for name, (type_, nullable) in MANDATORY.items():
        assert (by_name[name].type, by_name[name].nullable, by_name[name].level) == (type_, nullable, "Mandatory")
    assert {column.name for column in COLUMNS if column.level == "Mandatory"} == MANDATORY.keys()


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_names_are_as_column_naming_wants_them(column: Column) -> None:
    """Pascal case, letters and digits; custom columns have the prefix x_."""
    name = column.name.removeprefix("x_")
    assert name.isalnum()
    assert name[0].isupper()
    assert column.name.startswith("x_") is (column.level == "Custom")


async def test_the_csv_has_every_row_once_and_is_valid(ask: Any) -> None:
    answer = await ask("/v1/costs/export", **SPAN)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert ".csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0]) == [column.name for column in COLUMNS]
    assert len(rows) == len(STORY) - 2
    for one in rows:
        for column in COLUMNS:
            _check(column, one[column.name])
        _check_prices(one)
    assert sum(Decimal(one["BilledCost"]) for one in rows) == Decimal(PAID) / NANO
    storage_day, egress, first, *_ = rows
    assert (egress["ServiceCategory"], egress["PricingUnit"], egress["PricingQuantity"]) == ("Networking", "GB", "3")
    assert (storage_day["ServiceCategory"], storage_day["PricingUnit"]) == ("Storage", "GB-Months")
    assert (first["PricingCategory"], first["ListCost"], first["BilledCost"]) == ("Dynamic", "0.018", "0.006")
    assert first["ResourceName"] == '\'=bot,"1"', "no formula for a spreadsheet"
    assert (first["SubAccountId"], first["SkuPriceId"]) == ("chat", "aws/us-east-1/g5.xlarge/spot")
    assert json.loads(first["Tags"])["sskai/project"] == "chat"
    of_four = next(one for one in rows if one["x_Interval"] == "3")
    assert Decimal(of_four["PricingQuantity"]) == pytest.approx(Decimal(4) / 60, abs=Decimal("1e-9"))
    assert [one["ChargeClass"] for one in rows if one["BilledCost"].startswith("-")] == ["Correction"]


def _check(column: Column, text: str) -> None:
    if not text:
        assert column.nullable, f"{column.name} must not be null"
        return
    if column.name in ALLOWED:
        assert text in ALLOWED[column.name]
    if column.type is Type.DECIMAL:
        assert "E" not in text
        assert "e" not in text.lower()
    elif column.type is Type.TIME:
        assert datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").tzinfo is not None
    elif column.type is Type.JSON:
        assert isinstance(json.loads(text), dict)


def _check_prices(one: dict[str, str]) -> None:
    """Unit price x quantity = cost; a period lies in its billing period."""
    quantity = Decimal(one["PricingQuantity"])
    for unit, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
        assert abs(Decimal(one[unit]) * quantity - Decimal(one[cost])) < Decimal("1e-9")
    assert one["BillingPeriodStart"] <= one["ChargePeriodStart"] < one["BillingPeriodEnd"]
    assert one["ChargePeriodStart"] <= one["ChargePeriodEnd"]


async def test_the_parquet_file_says_the_same_with_exact_types(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(money_api, "PAGE", 3)  # several pages, and so several row groups
    data = (await ask("/v1/costs/export", format="parquet", **SPAN)).content
    file = parquet.ParquetFile(pa.BufferReader(data))
    assert file.schema_arrow.equals(SCHEMA)
    assert file.schema_arrow.metadata[b"focus_version"] == b"1.2"
    assert file.num_row_groups == 3
    rows = file.read().to_pylist()
    assert sum(one["BilledCost"] for one in rows) == Decimal(PAID) / NANO
    from_csv = list(csv.DictReader(io.StringIO((await ask("/v1/costs/export", **SPAN)).text)))
    assert [one["x_JobId"] or "" for one in rows] == [one["x_JobId"] for one in from_csv]


async def test_the_export_of_nothing_is_a_file_with_columns(ask: Any) -> None:
    nothing = {"since": "2025-01-01T00:00:00Z", "until": "2025-02-01T00:00:00Z"}
    assert len((await ask("/v1/costs/export", **nothing)).text.splitlines()) == 1
    data = (await ask("/v1/costs/export", format="parquet", **nothing)).content
    assert parquet.read_table(pa.BufferReader(data)).num_rows == 0
    assert len((await ask("/v1/costs/export", "B", **SPAN)).text.splitlines()) == 1, "another tenant's"


async def test_totals_by_day_and_kind_and_in_all(ask: Any) -> None:
    told = (await ask("/v1/costs", group_by="day,kind", **SPAN)).json()
    assert told["total"]["spent_nano_usd"] == PAID
    groups = {(one["day"], one["kind"]): one for one in told["groups"]}
    assert groups["2026-11-24", "compute"]["spent_nano_usd"] == (60 + 7 + 60) * 100_000 + 18_000_000
    assert groups["2026-11-25", "compute"]["machine_seconds"] == 240
    assert groups["2026-11-25", "storage"]["spent_nano_usd"] == -1_150_000
    day = groups["2026-11-25", "compute"]
    assert day["saving_nano_usd"] == day["on_demand_nano_usd"] - day["spent_nano_usd"] == 240 * 200_000
    assert day["saving_fraction"] == pytest.approx(2 / 3)
    of_chat = (await ask("/v1/costs", group_by="project", project="chat", **SPAN)).json()
    assert of_chat["total"]["spent_nano_usd"] == PAID - 18_000_000 - 4_600_000
    jobs = (await ask("/v1/costs", group_by="job,endpoint", kind="compute", **SPAN)).json()["groups"]
    assert [(one["job"], one["endpoint"]) for one in jobs] == [
        ("endpoint_1", "endpoint_1"),
        ("job_1", ""),
        ("job_2", ""),
    ]
    assert (await ask("/v1/costs", "B", **SPAN)).json()["total"]["spent_nano_usd"] == 0


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"group_by": "colour"}, "group_by"),
        ({"since": "2026-12-01T00:00:00Z", "until": "2026-11-01T00:00:00Z"}, "since"),
        ({"since": "2020-01-01T00:00:00Z", "until": "2026-11-01T00:00:00Z"}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"color": "red"}, "color"),
    ],
)
async def test_a_question_that_cannot_be_answered_names_the_parameter(ask: Any, params: Any, field: str) -> None:
    answer = await ask("/v1/costs", **params)
    assert answer.status_code == 422
    assert field in answer.text


async def test_an_endpoint_has_a_receipt_of_each_month(ask: Any) -> None:
    told = (await ask("/v1/receipts/endpoints/endpoint_1", month="2026-11")).json()
    assert (told["spent_nano_usd"], told["on_demand_nano_usd"]) == (6_000_000, 18_000_000)
    assert told["usd_per_million_tokens"] == pytest.approx(0.006 / 1500 * 1e6)
    assert [one["day"] for one in told["days"]] == ["2026-11-24"]
    assert (await ask("/v1/receipts/endpoints/endpoint_1", month="2026-10")).status_code == 404
    assert (await ask("/v1/receipts/endpoints/endpoint_1", "B", month="2026-11")).status_code == 404
    assert (await ask("/v1/receipts/endpoints/endpoint_1", month="2026-13")).status_code == 422


async def test_a_budget_shows_what_is_spent_reserved_and_left(ask: Any, database: Database) -> None:
    now = datetime.now(UTC)
    budget = events.BudgetSet(
        budget_id="budget_1", tenant_id="A", scope="tenant", target="A", amount_nano_usd=NANO, period="total",
        action="stop", set_at=timestamp(now),
    )  # fmt: skip
    wish = events.SpendReserveRequested(
        job_id="job_9", tenant_id="A", number=1, wanted_nano_usd=100_000_000, requested_at=timestamp(now)
    )
    for message in (budget, wish):
        await handle(HANDLERS, database, Store, message, now)
    [shown] = (await ask("/v1/budgets")).json()["budgets"]
    assert (shown["spent_nano_usd"], shown["reserved_nano_usd"]) == (PAID, 100_000_000)
    assert shown["left_nano_usd"] == NANO - PAID - 100_000_000
    assert (await ask("/v1/budgets", "B")).json() == {"budgets": []}


def test_the_specifications_version_is_named() -> None:
    assert focus.VERSION == "1.2"
