"""Whether a service lives, is ready, and how its parts are: `ServiceHealth`, probes for the parts, and the drain.

The endpoints of both frameworks, the console and the example use it. Names are loaded when they are used.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.health.damping import Damping
    from huleedu_service_libs.health.drain import DrainConfig, DrainReport
    from huleedu_service_libs.health.findings import ComponentState, Finding, Impact, Level, Probe
    from huleedu_service_libs.health.probes.breakers import breakers_probe
    from huleedu_service_libs.health.probes.consumer import ConsumerLimits, consumer_probe
    from huleedu_service_libs.health.probes.database import database_probe
    from huleedu_service_libs.health.probes.dedupe_store import dedupe_store_probe
    from huleedu_service_libs.health.probes.kafka import kafka_probe
    from huleedu_service_libs.health.probes.outbox import outbox_probe, relay_probe
    from huleedu_service_libs.health.probes.redis import redis_probe
    from huleedu_service_libs.health.service import HealthConfig, ServiceHealth
    from huleedu_service_libs.health.signals import drain_before_stop

__all__ = [
    "ComponentState",
    "ConsumerLimits",
    "Damping",
    "DrainConfig",
    "DrainReport",
    "Finding",
    "HealthConfig",
    "Impact",
    "Level",
    "Probe",
    "ServiceHealth",
    "breakers_probe",
    "consumer_probe",
    "database_probe",
    "dedupe_store_probe",
    "drain_before_stop",
    "kafka_probe",
    "outbox_probe",
    "redis_probe",
    "relay_probe",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **dict.fromkeys(("ComponentState", "Finding", "Impact", "Level", "Probe"), f"{__name__}.findings"),
        **dict.fromkeys(("DrainConfig", "DrainReport"), f"{__name__}.drain"),
        **dict.fromkeys(("HealthConfig", "ServiceHealth"), f"{__name__}.service"),
        **dict.fromkeys(("ConsumerLimits", "consumer_probe"), f"{__name__}.probes.consumer"),
        **dict.fromkeys(("outbox_probe", "relay_probe"), f"{__name__}.probes.outbox"),
        "Damping": f"{__name__}.damping",
        "breakers_probe": f"{__name__}.probes.breakers",
        "database_probe": f"{__name__}.probes.database",
        "dedupe_store_probe": f"{__name__}.probes.dedupe_store",
        "drain_before_stop": f"{__name__}.signals",
        "kafka_probe": f"{__name__}.probes.kafka",
        "redis_probe": f"{__name__}.probes.redis",
    },
)
