"""Runs handlers over the events of some topics, as one member of a consumer group, and loses none.

`EventConsumer` is the way in. The names below are fetched when they are first
used, so that whoever only needs a port or an error loads no driver.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.kafka.consumer.config import (
        ConsumerConfig,
        RetryPolicy,
        UnhandledPolicy,
    )
    from huleedu_service_libs.kafka.consumer.errors import ConsumerSetupError, HandlerTimeoutError
    from huleedu_service_libs.kafka.consumer.ports import Delivery, ProcessingStep
    from huleedu_service_libs.kafka.consumer.redriving import RedriveReport, redrive
    from huleedu_service_libs.kafka.consumer.runner import EventConsumer
    from huleedu_service_libs.kafka.consumer.signals import run_until_signal, stop_on_signals
    from huleedu_service_libs.kafka.consumer.status import ConsumerStatus, StuckPartition

__all__ = [
    "ConsumerConfig",
    "ConsumerSetupError",
    "ConsumerStatus",
    "Delivery",
    "EventConsumer",
    "HandlerTimeoutError",
    "ProcessingStep",
    "RedriveReport",
    "RetryPolicy",
    "StuckPartition",
    "UnhandledPolicy",
    "redrive",
    "run_until_signal",
    "stop_on_signals",
]

_HOME = "huleedu_service_libs.kafka.consumer."

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ConsumerConfig": f"{_HOME}config",
        "ConsumerSetupError": f"{_HOME}errors",
        "ConsumerStatus": f"{_HOME}status",
        "Delivery": f"{_HOME}ports",
        "EventConsumer": f"{_HOME}runner",
        "HandlerTimeoutError": f"{_HOME}errors",
        "ProcessingStep": f"{_HOME}ports",
        "RedriveReport": f"{_HOME}redriving",
        "RetryPolicy": f"{_HOME}config",
        "StuckPartition": f"{_HOME}status",
        "UnhandledPolicy": f"{_HOME}config",
        "redrive": f"{_HOME}redriving",
        "run_until_signal": f"{_HOME}signals",
        "stop_on_signals": f"{_HOME}signals",
    },
)
