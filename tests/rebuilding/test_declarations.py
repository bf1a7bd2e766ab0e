"""Every table of every service is said to be derived or kept."""

from __future__ import annotations

import re

import pytest

from sskai.database import SERVICES
from sskai.rebuilding.tables import DELIVERY
from tools.histories import FOLDER, projection_of

DOCS = FOLDER.parents[1] / "docs" / "operations" / "rebuild.md"


@pytest.mark.parametrize("service", SERVICES)
def test_each_table_is_derived_or_kept(service: str) -> None:
    tables = projection_of(service).tables
    there = {table.name for table in tables.metadata.tables.values()} - set(DELIVERY)
    assert not tables.derived.keys() & tables.kept.keys()
    assert tables.derived.keys() | tables.kept.keys() == there


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_said_of_columns_is_about_columns_that_are_there(service: str) -> None:
    tables = projection_of(service).tables
    for name, derived in tables.derived.items():
        columns = set(tables.columns(name))
        assert columns >= {*derived.own, *derived.compared}
        assert derived.key or not {column.name for column in tables.table(name).primary_key} & set(derived.own)
    indexes = {index.name for table in tables.metadata.tables.values() for index in table.indexes}
    assert indexes >= set(tables.unbound)


@pytest.mark.parametrize("service", SERVICES)
def test_the_docs_name_the_derived_tables(service: str) -> None:
    [line] = re.findall(rf"^\| {service} \| ([^|]*) \|", DOCS.read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", line)) == projection_of(service).tables.derived.keys()
