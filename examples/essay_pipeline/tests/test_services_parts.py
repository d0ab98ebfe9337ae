"""Small parts of the services, without servers: tokens, health, settings, notifications."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from common_core.error_enums import ErrorCode
from common_core.events.envelope import EventEnvelope
from essay_pipeline.contracts import EssaySpellcheckedV1, EssaySubmittedV1, kafka_moment, moment_text
from essay_pipeline.intake.app import create_app
from essay_pipeline.intake.service import EssayIntake
from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.notify.service import Notifier
from essay_pipeline.tokens import InvalidTokenError, issue_token, verify_token
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context
from huleedu_service_libs.kafka.consumer import Delivery
from huleedu_service_libs.redis_pubsub import UserNotifications

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_token_names_its_user() -> None:
    """What was issued is verified with the same secret, also for ids with dots."""
    assert verify_token(issue_token("user.1", "secret"), "secret") == "user.1"


@pytest.mark.parametrize("token", ["", ".", "user-1", "user-1.", "user-2.{}", "{}.", "user-1.{}x", "user-1.å"])
def test_a_changed_token_is_refused(token: str) -> None:
    """Whatever is changed on a token makes it invalid, and the error does not repeat it."""
    signature = issue_token("user-1", "secret").rpartition(".")[2]

    with pytest.raises(InvalidTokenError) as caught:
        verify_token(token.format(signature), "secret")
    assert signature not in str(caught.value)


def test_another_secret_is_refused() -> None:
    """A token signed with another secret is invalid."""
    with pytest.raises(InvalidTokenError):
        verify_token(issue_token("user-1", "secret"), "other")


def test_an_empty_secret_signs_nothing() -> None:
    """Without a secret no token is made or accepted; the error names the variable to set."""
    with pytest.raises(ValueError, match="HULEEDU_INTERNAL_API_KEY"):
        issue_token("user-1", "")


def test_settings_demand_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service does not start without the shared secret, and says which variable holds it."""
    monkeypatch.delenv("HULEEDU_INTERNAL_API_KEY", raising=False)

    with pytest.raises(ValidationError, match="HULEEDU_INTERNAL_API_KEY"):
        IntakeSettings()


def test_settings_have_their_own_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """``INTAKE_PORT`` is read, ``PORT`` is not, and secrets stay out of the text form."""
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "hush")
    monkeypatch.setenv("INTAKE_PORT", "4711")
    monkeypatch.setenv("PORT", "1")
    settings = IntakeSettings()

    assert settings.PORT == 4711
    assert "hush" not in repr(settings)


def test_moments_keep_six_decimals() -> None:
    """Times are written in UTC with microseconds, also when there are none."""
    assert moment_text(NOON) == "2026-01-01T12:00:00.000000+00:00"
    assert kafka_moment(1_767_268_800_123) == NOON.replace(microsecond=123_000)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConnectionRefusedError("port 5432"), 503, "SERVICE_UNAVAILABLE"),
        (OperationalError("INSERT", {}, OSError("port 5432")), 503, "SERVICE_UNAVAILABLE"),
        (
            HuleEduError(
                create_error_detail_with_context(ErrorCode.EXTERNAL_SERVICE_ERROR, "outbox", "intake-service", "add")
            ),
            502,
            "EXTERNAL_SERVICE_ERROR",
        ),
        (ZeroDivisionError("port 5432"), 500, "UNKNOWN_ERROR"),
    ],
)
async def test_failures_of_intake_have_a_body(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    """A database that is away gives 503, a fault of our own 500; the client learns no inner text, and the log does."""
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "secret")
    app = create_app(IntakeSettings())
    app.extensions["intake"] = AsyncMock(spec=EssayIntake)
    app.extensions["intake"].accept.side_effect = error
    response = await app.test_client().post(
        "/v1/essays",
        json={"title": "t", "language": "en", "text": "This text is long enough."},
        headers={"X-User-Token": issue_token("user-1", "secret")},
    )

    body = await response.get_json()
    assert response.status_code == status
    assert body["error"]["code"] == code
    assert "port 5432" not in json.dumps(body)
    assert body["error"]["correlation_id"] == response.headers["X-Correlation-ID"] or status == 502


def delivery(event: Any) -> Delivery[Any]:
    """An event as a handler gets it."""
    envelope: EventEnvelope[Any] = EventEnvelope(event_type="t", source_service="s", data=event)
    raw: ConsumerRecord[bytes, bytes] = ConsumerRecord(
        topic="t",
        partition=0,
        offset=0,
        timestamp=1_767_268_800_000,
        timestamp_type=0,
        key=None,
        value=b"",
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=(),
    )
    return Delivery(record=raw, envelope=envelope, data=event)


def both_events() -> tuple[EssaySubmittedV1, EssaySpellcheckedV1]:
    """What *notify* gets for one essay."""
    essay_id = uuid4()
    times = {"received_at": NOON, "stored_at": NOON}
    submitted = EssaySubmittedV1(essay_id=essay_id, user_id="u", title="t", language="en", text="x", **times)
    more = dict.fromkeys(("relayed_at", "checking_at", "checked_at", "result_stored_at"), NOON)
    checked = EssaySpellcheckedV1(
        essay_id=essay_id, user_id="u", language="en", word_count=1, misspellings=[], **times, **more
    )
    return submitted, checked


def carrier() -> tuple[AsyncMock, list[str]]:
    """Carries notifications as a history does: the second of one id has no effect; and the names of those sent."""
    sent: dict[str, str] = {}
    names: list[str] = []

    async def publish(_user: str, name: str, _data: dict[str, Any], *, notification_id: str) -> int:
        await asyncio.sleep(0)
        if notification_id in sent:
            return 0
        sent[notification_id] = name
        names.append(name)
        return 1

    notifications = AsyncMock(spec=UserNotifications)
    notifications.publish_user_notification.side_effect = publish
    return notifications, names


@pytest.mark.parametrize("checked_first", [False, True])
async def test_accepted_is_told_before_checked(checked_first: bool) -> None:  # noqa: FBT001
    """Whichever event Kafka brings first, the user hears "accepted" once and then "checked" once."""
    submitted, checked = both_events()
    (notifications, told), confirm = carrier(), AsyncMock()
    notifier = Notifier(notifications, now=lambda: NOON)
    calls = [
        notifier.handle_submitted(delivery(submitted), confirm_idempotency=confirm),
        notifier.handle_checked(delivery(checked), confirm_idempotency=confirm),
    ]
    for call in reversed(calls) if checked_first else calls:
        await call

    assert told == ["essay.accepted", "essay.checked"]
    assert confirm.await_count == 2


async def test_both_events_at_once_keep_the_order() -> None:
    """Handlers of one essay that run at the same time, in one process or in two, announce each thing once."""
    submitted, checked = both_events()
    notifications, told = carrier()
    notifier = Notifier(notifications, now=lambda: NOON)
    await asyncio.gather(
        notifier.handle_checked(delivery(checked), confirm_idempotency=AsyncMock()),
        notifier.handle_submitted(delivery(submitted), confirm_idempotency=AsyncMock()),
    )

    assert told == ["essay.accepted", "essay.checked"]


async def test_a_failed_notification_is_not_confirmed() -> None:
    """When Redis fails the handler raises, nothing is confirmed, and the next try announces."""
    submitted, _ = both_events()
    (notifications, _), confirm = carrier(), AsyncMock()
    notifications.publish_user_notification.side_effect = [ConnectionError("gone"), 1]
    notifier = Notifier(notifications, now=lambda: NOON)

    with pytest.raises(ConnectionError):
        await notifier.handle_submitted(delivery(submitted), confirm_idempotency=confirm)
    confirm.assert_not_awaited()
    await notifier.handle_submitted(delivery(submitted), confirm_idempotency=confirm)
    ids = [call.kwargs["notification_id"] for call in notifications.publish_user_notification.await_args_list]
    assert ids == [f"essay.accepted:{submitted.essay_id}"] * 2, "the same id: sent twice, it has one effect"
    confirm.assert_awaited_once()


def test_events_are_json_with_fixed_times() -> None:
    """An event's JSON form has text ids and times with six decimals, and reads back equal."""
    submitted, _ = both_events()
    written = submitted.model_dump(mode="json")

    assert written["stored_at"] == "2026-01-01T12:00:00.000000+00:00"
    assert EssaySubmittedV1.model_validate_json(json.dumps(written)) == submitted


def test_rollbacks_on_request_are_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's switch cannot be left on by mistake where clients are strangers."""
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "secret")
    monkeypatch.setenv("INTAKE_DEMO_ROLLBACK_ENABLED", "true")
    assert IntakeSettings().DEMO_ROLLBACK_ENABLED
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(ValidationError, match="DEMO_ROLLBACK_ENABLED must not be set in production"):
        IntakeSettings()
