"""The tables of accounts: projects, people, keys, sessions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.base import Base


class TenantRow(Base):
    """A project. The end of its audit log is kept here, so that entries missing at the end are noticed."""

    __tablename__ = "tenants"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime]
    audit_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    audit_sha256: Mapped[str] = mapped_column(server_default=text("''"))


class UserRow(Base):
    """A person, as the identity provider names them."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    user_id: Mapped[str] = mapped_column(primary_key=True)
    issuer: Mapped[str]
    subject: Mapped[str]
    email: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[datetime]


class MemberRow(Base):
    """A person in a project. `user_id` None: invited, until somebody signs in with the verified address."""

    __tablename__ = "members"
    __table_args__ = (UniqueConstraint("tenant_id", "email"),)

    member_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    email: Mapped[str] = mapped_column(index=True)  # in lower case
    name: Mapped[str]
    role: Mapped[str]
    user_id: Mapped[str | None] = mapped_column(index=True)
    created_at: Mapped[datetime]


class KeyRow(Base):
    __tablename__ = "keys"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(index=True)  # finds the row; says nothing about the rest of the key
    sha256: Mapped[str]
    operator: Mapped[bool]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    sampled: Mapped[bool] = mapped_column(server_default=text("true"))  # False: InferenceSampled tells nothing of it
    created_by: Mapped[str] = mapped_column(server_default=text("''"))  # the id of a key or a user
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]  # to about a minute
    revoked_at: Mapped[datetime | None]


class SessionRow(Base):
    """A signed-in browser: a person's, or one that acts as a key. `tenant_id` empty: in no project."""

    __tablename__ = "sessions"

    session_id: Mapped[str] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[str | None]
    key_id: Mapped[str | None]
    tenant_id: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)  # moves on while it is used
    ends_at: Mapped[datetime]  # whatever happens


class LinkRow(Base):
    """A link that signs in once, as the key that asked for it."""

    __tablename__ = "links"

    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    key_id: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class AuditRow(Base):
    """An entry of a project's audit log, written by a function of the database (`write_audit`) alone."""

    __tablename__ = "audit"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_id: Mapped[str] = mapped_column(unique=True)
    at: Mapped[datetime]
    actor_kind: Mapped[str]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    status: Mapped[int]
    before_sha256: Mapped[str | None]
    after_sha256: Mapped[str | None]
    previous_sha256: Mapped[str]
    sha256: Mapped[str]
