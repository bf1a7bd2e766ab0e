"""How an endpoint's drift tests stand, as a person or a dashboard reads them."""

from __future__ import annotations

from typing import Any

from services.monitor import drift_watch
from services.monitor.drift_explained import member_name
from services.monitor.drift_store import DriftStore
from services.monitor.drift_streams import References
from services.monitor.drift_watch import Watch
from services.monitor.tables import DriftWatchRow


async def endpoint_drift(drifts: DriftStore, endpoint_id: str, tenant_id: str, alpha: float) -> list[dict[str, Any]]:
    """The tests of each version that the endpoint has served lately, the newest first; [] of an unknown endpoint."""
    return [
        _version(row, drift_watch.from_json(row.state), await drifts.references(row), alpha)
        for row in await drifts.watches(endpoint_id, tenant_id)
    ]


def _version(row: DriftWatchRow, watch: Watch, references: References, alpha: float) -> dict[str, Any]:
    return {
        "model_id": row.model_id,
        "version": row.version,
        "samples": watch.samples,
        "healthy_window": {"samples": watch.window_samples, "ready": watch.window_ready},
        "alpha": alpha,
        "tests": sorted(
            (_test(key, watch, references, alpha) for key in watch.tests),
            key=lambda test: -float(test["statistic"]) / float(test["threshold"]),
        ),
        "alarms": row.alarms,
        "updated_at": row.updated_at,
    }


def _test(key: str, watch: Watch, references: References, alpha: float) -> dict[str, Any]:
    test = watch.tests[key]
    stream, reference, member = drift_watch.parts(key)
    return {
        "signal": stream.name,
        "member": member_name(stream.name, member, references.inputs(reference), references.window),
        "reference": reference.value,
        "statistic": test.capital,
        "threshold": drift_watch.threshold(key, watch.tests, alpha),
        "sample_size": test.samples,
        "reference_size": test.reference_size,
        "reference_mean": test.reference_mean,
        "recent_mean": test.recent_mean,
        "recent_samples": test.recent_samples,
        "unit": stream.unit,
    }
