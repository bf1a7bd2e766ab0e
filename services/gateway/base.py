"""What the gateway's tables stand on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, DateTime, Float, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

from sskai.database import service_metadata


class Base(DeclarativeBase):
    metadata = service_metadata("gateway")
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it)
        str: Text,
        int: Integer,
        float: Float,
        bool: Boolean,
        bytes: LargeBinary,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }
