"""Inbox: that an event was processed is a row of the handler's own transaction.

For handlers that must not repeat even when Redis is down or forgets. Names are
handed on lazily, so that SQLAlchemy is loaded only by who uses them.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._extras import check_extra
from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.inbox.config import InboxConfig
    from huleedu_service_libs.inbox.errors import (
        InboxBusyError,
        InboxTableMissingError,
        InboxTransactionError,
        PayloadMismatchError,
    )
    from huleedu_service_libs.inbox.models import InboxRecord
    from huleedu_service_libs.inbox.outcomes import InboxOutcome
    from huleedu_service_libs.inbox.processing import Inbox
    from huleedu_service_libs.inbox.purge import InboxPurger
    from huleedu_service_libs.inbox.step import InboxStep

check_extra("outbox", package="sqlalchemy", module=__name__)

__all__ = [
    "Inbox",
    "InboxBusyError",
    "InboxConfig",
    "InboxOutcome",
    "InboxPurger",
    "InboxRecord",
    "InboxStep",
    "InboxTableMissingError",
    "InboxTransactionError",
    "PayloadMismatchError",
]

_HOME = "huleedu_service_libs.inbox."

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Inbox": f"{_HOME}processing",
        "InboxBusyError": f"{_HOME}errors",
        "InboxConfig": f"{_HOME}config",
        "InboxOutcome": f"{_HOME}outcomes",
        "InboxPurger": f"{_HOME}purge",
        "InboxRecord": f"{_HOME}models",
        "InboxStep": f"{_HOME}step",
        "InboxTableMissingError": f"{_HOME}errors",
        "InboxTransactionError": f"{_HOME}errors",
        "PayloadMismatchError": f"{_HOME}errors",
    },
)
