"""What a process hides beyond what is always secret. Chosen once, by the service."""

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CHOSEN", "RedactionPolicy", "configure_redaction", "on_policy_change", "squashed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionPolicy:
    """What is hidden beyond passwords, tokens, keys, cookies, authorization headers and URL credentials.

    Attributes:
        emails: E-mail addresses too. Off by default, because identity errors are about them.
        names: Further names of fields whose values are hidden, compared without case and separators.
    """

    emails: bool = False
    names: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Chosen:
    emails: bool
    names: frozenset[str]


CHOSEN = _Chosen(emails=False, names=frozenset())


def configure_redaction(policy: RedactionPolicy) -> None:
    """From now on this process hides what ``policy`` says, in logs, spans, error details and answers."""
    CHOSEN.emails = policy.emails
    CHOSEN.names = frozenset(map(squashed, policy.names))
    for forget in _caches:
        forget()


_caches: list[Callable[[], None]] = []


def on_policy_change(forget: Callable[[], None]) -> None:
    """Call ``forget`` whenever the policy changes; for those that remember what held no secret."""
    _caches.append(forget)


def squashed(name: str) -> str:
    """``name`` without case and separators."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
