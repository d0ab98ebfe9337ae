"""The events and notifications of the pipeline: what the three services agree on.

Every service and the demo import this module; it knows none of them. A change
here that an older consumer cannot read needs a new version in the topic's name.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

__all__ = [
    "ACCEPTED_NOTIFICATION",
    "CHECKED_NOTIFICATION",
    "CHECKED_TOPIC",
    "GONE_NOTIFICATION",
    "LEAST_CHARACTERS",
    "MOST_BODY_BYTES",
    "MOST_CHARACTERS",
    "READY_NOTIFICATION",
    "SUBMITTED_TOPIC",
    "EssaySpellcheckedV1",
    "EssaySubmittedV1",
    "Language",
    "MisspellingV1",
    "Moment",
    "kafka_moment",
    "moment_text",
]

SUBMITTED_TOPIC = "huleedu.essay.submitted.v1"
"""Topic and event type of `EssaySubmittedV1`; the key is the essay's id."""

CHECKED_TOPIC = "huleedu.essay.spellcheck.completed.v1"
"""Topic and event type of `EssaySpellcheckedV1`; the key is the essay's id."""

READY_NOTIFICATION = "ready"
GONE_NOTIFICATION = "history.gone"
ACCEPTED_NOTIFICATION = "essay.accepted"
CHECKED_NOTIFICATION = "essay.checked"

LEAST_CHARACTERS = 20
"""Of an essay's text, in code points; less is no essay."""

MOST_CHARACTERS = 20_000
"""Of an essay's text, in code points; a long school essay has 10 000."""

MOST_BODY_BYTES = 64 * 1024
"""Of a request to *intake*, unless its settings say otherwise."""

Language = Literal["en", "sv"]


def moment_text(moment: datetime) -> str:
    """``moment`` as ISO 8601 in UTC, always with six decimals."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def kafka_moment(timestamp_ms: int) -> datetime:
    """The time that a Kafka record carries: when its producer handed it over, cut to milliseconds."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


Moment = Annotated[AwareDatetime, PlainSerializer(moment_text, return_type=str, when_used="json")]
"""A time with zone; in JSON as `moment_text` writes it."""


class MisspellingV1(BaseModel):
    """One word that the dictionary does not know.

    Attributes:
        word: As it stands in the text.
        start: Index of its first character in the text, in code points.
        end: Index after its last character.
        suggestions: What may have been meant, best first.
    """

    model_config = ConfigDict(frozen=True)

    word: str
    start: int
    end: int
    suggestions: list[str]


class EssaySubmittedV1(BaseModel):
    """An essay was accepted and stored.

    Attributes:
        essay_id: Its identity.
        user_id: Whose it is, and who is notified.
        title: For people.
        language: Of the text.
        text: What to check.
        received_at: When the request had been read.
        stored_at: When essay and event had been written, right before the commit: an event cannot
            carry the time after the commit that makes it visible.
    """

    model_config = ConfigDict(frozen=True)

    essay_id: UUID
    user_id: str
    title: str
    language: Language
    text: str
    received_at: Moment
    stored_at: Moment


class EssaySpellcheckedV1(BaseModel):
    """An essay was checked, and the result stored.

    Attributes:
        essay_id: Its identity.
        user_id: Who is notified.
        language: Of the text.
        word_count: Words in the text.
        misspellings: In the order of the text.
        received_at: Of the submitted essay.
        stored_at: Of the submitted essay.
        relayed_at: Kafka's time of the submitted event; milliseconds, so it may seem to lie up to
            one before ``stored_at``.
        checking_at: When the check began.
        checked_at: When it ended.
        result_stored_at: When result and event had been written, right before the commit.
    """

    model_config = ConfigDict(frozen=True)

    essay_id: UUID
    user_id: str
    language: Language
    word_count: int = Field(ge=0)
    misspellings: list[MisspellingV1]
    received_at: Moment
    stored_at: Moment
    relayed_at: Moment
    checking_at: Moment
    checked_at: Moment
    result_stored_at: Moment
