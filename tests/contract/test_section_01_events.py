"""Section 1: events. The envelope, and what is read from a message's bytes."""

import pytest
from pydantic import BaseModel

import common_core
from common_core import events
from common_core.events import envelope
from common_core.events.envelope import EventEnvelope


@pytest.mark.contract("1.1-import-paths")
def test_import_paths() -> None:
    """Three paths lead to one class; its type parameter is bound to models and can be imported too."""
    assert envelope.EventEnvelope is events.EventEnvelope is common_core.EventEnvelope is EventEnvelope
    assert envelope.T_EventData.__bound__ is BaseModel
