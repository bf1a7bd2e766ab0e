"""A tenant's datasets and models, found by the names that users write."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    Row,
    Select,
    bindparam,
    desc,
    exists,
    func,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import references
from services.gateway.aliases import CHAMPION
from services.gateway.catalogue import Catalogue
from services.gateway.datareport import Summary
from services.gateway.paging import Paging
from services.gateway.plain import finite
from services.gateway.tables import AliasRow, DatasetRow, ModelRow
from services.gateway.values import Checked, Dataset, Model
from sskai.contract import moment, new_id, timestamp
from sskai.events import v1 as events
from sskai.statements import Statement


class Library:
    """Every method asks for the tenant: nobody finds what belongs to somebody else."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def dataset(self, tenant_id: str, reference: str, *, keep: bool = False) -> Dataset | None:
        """By `dataset://NAME/VERSION`, `NAME@VERSION`, `NAME` (the newest) or id.

        `keep`: it cannot be deleted until this transaction ends.
        """
        named = references.parse(reference, "dataset")
        if named is None:
            return None
        asked: dict[str, Any] = {"tenant_id": tenant_id, "name": named.name}
        if named.version is not None:
            query, asked = _DATASET_OF_VERSION[keep], {**asked, "version": named.version}
        else:
            query = _NEWEST_DATASET[keep]
        row = await query.first(self.session, asked)
        return _dataset(row) if row else None

    async def dataset_at(self, tenant_id: str, uri: str) -> Dataset | None:
        """The one whose rows lie there, as a job's specification and a model's version name it."""
        query = _datasets_of(tenant_id).where(DatasetRow.uri == uri).limit(1)
        row = await self.session.scalar(query)
        return _dataset(row) if row else None

    async def datasets(
        self, tenant_id: str, paging: Paging, *, name: str | None = None, format_name: str | None = None
    ) -> list[Dataset]:
        """A page, and one more."""
        query = _datasets_of(tenant_id)
        if name is not None:
            query = query.where(DatasetRow.name == name)
        if format_name is not None:
            query = query.where(DatasetRow.format == format_name)
        rows = await self.session.scalars(paging.of(query, DatasetRow.dataset_id, DatasetRow.created_at))
        return [_dataset(row) for row in rows]

    async def same_content(self, tenant_id: str, name: str, sha256: str) -> Dataset | None:
        """The version of `name` that is this content."""
        query = _datasets_of(tenant_id).where(DatasetRow.name == name, DatasetRow.sha256 == sha256)
        row = await self.session.scalar(query.limit(1))
        return _dataset(row) if row else None

    async def deletions(self, tenant_id: str, name: str, sha256: str) -> int:
        """How often this content was a version of `name` and was deleted."""
        of_content = (DatasetRow.name == name) & (DatasetRow.sha256 == sha256)
        deleted = select(func.count()).where(DatasetRow.tenant_id == tenant_id, of_content)
        return int(await self.session.scalar(deleted.where(DatasetRow.deleted_at.is_not(None))) or 0)

    async def add_dataset(
        self,
        tenant_id: str,
        name: str,
        uri: str,
        summary: Summary,
        now: datetime,
        *,
        lineage: dict[str, Any] | None = None,
        filename: str = "",
    ) -> tuple[Dataset, bool]:
        """A new version of `name`; or the version that has the same content already, and False."""
        await self.lock_versions(tenant_id, name)
        same = await self.same_content(tenant_id, name, summary.sha256)
        if same is not None:
            return same, False
        of_name = (DatasetRow.tenant_id == tenant_id) & (DatasetRow.name == name)
        newest = await self.session.scalar(select(func.max(DatasetRow.version)).where(of_name))
        row = DatasetRow(
            dataset_id=new_id("dataset"),
            tenant_id=tenant_id,
            name=name,
            version=(newest or 0) + 1,
            uri=uri,
            format=summary.format,
            rows=summary.rows,
            bytes=summary.bytes,
            sha256=summary.sha256,
            estimated_tokens=summary.estimated_tokens,
            report=summary.report,
            lineage=lineage,
            filename=filename,
            created_at=now,
        )
        self.session.add(row)
        await self.session.flush()
        return _dataset(row), True

    async def lock_versions(self, tenant_id: str, name: str) -> None:
        """Versions of one name are given one after the other: the newest stays so until the transaction ends."""
        await self.session.execute(
            text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"dataset:{tenant_id}:{name}"}
        )

    async def model(self, tenant_id: str, reference: str, catalogue: Catalogue, *, keep: bool = False) -> Model | None:
        """A foundation model by its id, or one of the tenant's: `NAME@VERSION`, `NAME@ALIAS`, `model://...`, `NAME`.

        `keep`: it cannot be deleted until this transaction ends.
        """
        named = references.parse(reference, "model")
        if named is None:
            return None
        if named.version is None and not named.alias and (builtin := catalogue.find(named.name)):
            return builtin
        # Of two that answer to a name, a trained one comes before an uploaded one.
        query = _models_of(tenant_id).order_by(desc(ModelRow.origin == "trained"), desc(ModelRow.version)).limit(1)
        query = query.where((ModelRow.name == named.name) | (ModelRow.model_id == named.name))
        if named.version is not None:
            query = query.where(ModelRow.version == named.version)
        if named.alias:
            meant = (AliasRow.model_id == ModelRow.model_id) & (AliasRow.version == ModelRow.version)
            of_name = (AliasRow.name == ModelRow.name) & (AliasRow.alias == named.alias)
            query = query.where(exists().where(AliasRow.tenant_id == tenant_id, meant, of_name))
        row = await self.session.scalar(query.with_for_update(read=True, of=ModelRow) if keep else query)
        return _model(row) if row else None

    async def champion(self, tenant_id: str, name: str) -> tuple[Model | None, bool]:
        """The trained version of a model that a new one is measured against: `@champion`, else the newest. And whether
        the name is an uploaded model's, or one's of code."""
        found = await _CHAMPION.first(self.session, {"tenant_id": tenant_id, "job_name": name})
        return _champion(found) if found is not None else (None, False)

    async def to_train(
        self, tenant_id: str, reference: str, name: str
    ) -> tuple[Dataset | None, tuple[Model | None, bool]]:
        """For a job of that name: its dataset, which cannot be deleted until this transaction ends, and what `champion`
        says, if there is the dataset."""
        named = references.parse(reference, "dataset")
        if named is None:
            return None, (None, False)
        asked: dict[str, Any] = {"tenant_id": tenant_id, "name": named.name, "job_name": name}
        if named.version is not None:
            query, asked = _VERSION_TO_TRAIN, {**asked, "version": named.version}
        else:
            query = _NEWEST_TO_TRAIN
        row = await query.first(self.session, asked)
        if row is None:
            return None, (None, False)
        is_there = row.champion_model_id is not None
        return _dataset(row, "dataset_"), _champion(row, "champion_") if is_there else (None, False)

    async def models(
        self,
        tenant_id: str,
        limit: int,
        *,
        after: Model | None = None,
        name: str | None = None,
        origin: str | None = None,
    ) -> list[Model]:
        """The tenant's own, newest first."""
        query = _models_of(tenant_id)
        if name is not None:
            query = query.where(ModelRow.name == name)
        if origin is not None:
            query = query.where(ModelRow.origin == origin)
        place = tuple_(ModelRow.created_at, ModelRow.model_id, ModelRow.version)
        if after is not None:
            query = query.where(place < tuple_(after.created_at, after.model_id, after.version))
        newest = (desc(ModelRow.created_at), desc(ModelRow.model_id), desc(ModelRow.version))
        return [_model(row) for row in await self.session.scalars(query.order_by(*newest).limit(limit))]

    async def models_of_jobs(self, tenant_id: str, job_ids: Collection[str]) -> dict[str, Model]:
        """What became of these jobs, by their ids, also what was deleted since."""
        query = select(ModelRow).where(ModelRow.tenant_id == tenant_id, ModelRow.job_id.in_(job_ids))
        rows = await self.session.scalars(query)
        return {row.job_id: _model(row) for row in rows}

    async def origins(self, tenant_id: str, name: str) -> set[str]:
        """Whether models of this name were trained, uploaded, or are code."""
        own = (ModelRow.tenant_id == tenant_id) & (ModelRow.name == name) & ModelRow.deleted_at.is_(None)
        return set(await self.session.scalars(select(ModelRow.origin).where(own).distinct()))

    async def add_uploaded_model(
        self, tenant_id: str, name: str, now: datetime, *, model_id: str, uri: str, checked: Checked
    ) -> Model:
        """The next version of an uploaded model; each version is a foundation model of its own."""
        await self.session.execute(
            text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"model:{tenant_id}:{name}"}
        )
        newest = await self._newest_version(tenant_id, name, "uploaded")
        row = ModelRow(
            model_id=model_id,
            version=(newest or 0) + 1,
            tenant_id=tenant_id,
            name=name,
            origin="uploaded",
            base_model_id=model_id,
            base_uri=uri,
            artifact_uri="",
            config_json=checked.config_json,
            parameters=checked.parameters,
            bytes=checked.bytes,
            method="",
            job_id="",
            dataset_uri="",
            created_at=now,
        )
        self.session.add(row)
        await self.session.flush()
        return _model(row)

    async def add_code_model(self, tenant_id: str, name: str, now: datetime, uri: str) -> tuple[Model, bool]:
        """The next version of a model as code; or the version that is the same zip already, and False."""
        await self.session.execute(
            text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"model:{tenant_id}:{name}"}
        )
        of_name = _models_of(tenant_id).where(ModelRow.name == name, ModelRow.origin == "code")
        same = await self.session.scalar(of_name.where(ModelRow.base_uri == uri).limit(1))
        if same is not None:
            return _model(same), False
        newest = await self._newest_version(tenant_id, name, "code")
        model_id = new_id("model")
        row = ModelRow(
            model_id=model_id,
            version=(newest or 0) + 1,
            tenant_id=tenant_id,
            name=name,
            origin="code",
            base_model_id=model_id,
            base_uri=uri,
            artifact_uri="",
            config_json="",
            method="",
            job_id="",
            dataset_uri="",
            created_at=now,
        )
        self.session.add(row)
        await self.session.flush()
        return _model(row), True

    async def _newest_version(self, tenant_id: str, name: str, origin: str) -> int | None:
        """Deleted ones count: their numbers are not given again."""
        of_name = (ModelRow.tenant_id == tenant_id) & (ModelRow.name == name) & (ModelRow.origin == origin)
        return await self.session.scalar(select(func.max(ModelRow.version)).where(of_name))

    async def add_trained_model(self, event: events.ModelVersionReady) -> None:
        """A version that a job made; one that is known already stays as it is."""
        values = {
            "model_id": event.model_id,
            "version": event.version,
            "tenant_id": event.tenant_id,
            "name": event.name,
            "origin": "trained",
            "base_model_id": event.base_model_id,
            "base_uri": event.base_uri,
            "artifact_uri": event.artifact_uri,
            "config_json": "",
            "method": event.method,
            "job_id": event.job_id,
            "dataset_uri": event.dataset_uri,
            "eval_loss_before": finite(event.eval_loss_before),
            "eval_loss_after": finite(event.eval_loss_after),
            "created_at": moment(event.ready_at),
        }
        await self.session.execute(upsert(ModelRow).values(**values).on_conflict_do_nothing())


def validated(dataset: Dataset) -> events.DatasetValidated:
    """The fact that a version is there."""
    event = events.DatasetValidated(
        dataset_id=dataset.dataset_id,
        tenant_id=dataset.tenant_id,
        name=dataset.name,
        version=dataset.version,
        uri=dataset.uri,
        format=dataset.format,
        rows=dataset.rows,
        bytes=dataset.bytes,
        sha256=dataset.sha256,
        estimated_tokens=dataset.estimated_tokens,
        validated_at=timestamp(dataset.created_at),
    )
    if dataset.lineage is not None:
        json_format.ParseDict(dataset.lineage, event.lineage)
    return event


def _datasets_of(tenant_id: str) -> Select[DatasetRow]:
    return select(DatasetRow).where(DatasetRow.tenant_id == tenant_id, DatasetRow.deleted_at.is_(None))


def _models_of(tenant_id: str) -> Select[ModelRow]:
    return select(ModelRow).where(ModelRow.tenant_id == tenant_id, ModelRow.deleted_at.is_(None))


_dataset_columns, _models, _aliases = DatasetRow.__table__.c, ModelRow.__table__.c, AliasRow.__table__.c
_NAMED = _dataset_columns.name == bindparam("name")
_OF_TENANT = select(DatasetRow.__table__).where(
    _dataset_columns.tenant_id == bindparam("tenant_id"), _dataset_columns.deleted_at.is_(None)
)
_OF_VERSION = _OF_TENANT.where(_NAMED, _dataset_columns.version == bindparam("version"))
_NEWEST = (
    _OF_TENANT.where(_NAMED | (_dataset_columns.dataset_id == bindparam("name")))
    .order_by(desc(_dataset_columns.version))
    .limit(1)
)
_is_trained = _models.origin == "trained"
_is_champion = exists().where(
    _aliases.tenant_id == bindparam("tenant_id"),
    _aliases.name == bindparam("job_name"),
    _aliases.alias == CHAMPION,
    _aliases.model_id == _models.model_id,
    _aliases.version == _models.version,
)
_OF_NAME = (
    select(ModelRow.__table__, func.bool_or(~_is_trained).over().label("is_taken"))
    .where(
        _models.tenant_id == bindparam("tenant_id"),
        _models.name == bindparam("job_name"),
        _models.deleted_at.is_(None),
    )
    .order_by(desc(_is_trained), desc(_is_champion), desc(_models.version))
    .limit(1)
)


def _either(query: Select[Any]) -> dict[bool, Statement]:
    """By whether the row is to be kept."""
    return {False: Statement(query), True: Statement(query.with_for_update(read=True))}


def _with_champion(query: Select[Any]) -> Statement:
    dataset, champion = query.with_for_update(read=True).subquery("dataset"), _OF_NAME.subquery("champion")
    both = select(dataset, champion).select_from(dataset.outerjoin(champion, true()))
    return Statement(both.set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL))


_DATASET_OF_VERSION, _NEWEST_DATASET = _either(_OF_VERSION), _either(_NEWEST)
_VERSION_TO_TRAIN, _NEWEST_TO_TRAIN = _with_champion(_OF_VERSION), _with_champion(_NEWEST)
_CHAMPION = Statement(_OF_NAME)
_COLUMNS_OF_MODELS = set(Model.__dataclass_fields__) & set(_models.keys())


def _dataset(row: DatasetRow | Row[Any], prefix: str = "") -> Dataset:
    return Dataset(**{name: getattr(row, prefix + name) for name in Dataset.__dataclass_fields__})


def _champion(row: Row[Any], prefix: str = "") -> tuple[Model | None, bool]:
    found = _model(row, prefix)
    return found if found.origin == "trained" else None, getattr(row, f"{prefix}is_taken")


def _model(row: ModelRow | Row[Any], prefix: str = "") -> Model:
    return Model(available=True, **{name: getattr(row, prefix + name) for name in _COLUMNS_OF_MODELS})
