"""Which segments of a path are tokens, and which are ids, words and names of files."""

import base64
import random
import string
import time
from collections.abc import Callable
from uuid import UUID

import pytest

from huleedu_service_libs._redaction import redact_path
from huleedu_service_libs.error_handling.context import ErrorContext, operation_scope

BASE_62 = string.ascii_letters + string.digits
BASE_64 = f"{BASE_62}-_"
HEX = string.digits + "abcdef"
BASE_36 = string.ascii_lowercase + string.digits
WEB_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

Draw = random.Random(20_261_128)  # noqa: S311  # the same tokens in every run


def drawn(alphabet: str, length: int) -> str:
    """A token."""
    return "".join(Draw.choices(alphabet, k=length))


TOKENS: dict[str, tuple[Callable[[], str], float]] = {
    "token_urlsafe(32)": (lambda: drawn(BASE_64, 43), 0.999),
    "token_urlsafe(24)": (lambda: drawn(BASE_64, 32), 0.99),
    "GitHub": (lambda: f"ghp_{drawn(BASE_62, 36)}", 0.999),
    "token_hex(20)": (lambda: drawn(HEX, 40), 1),
    "token_hex(32)": (lambda: drawn(HEX, 64), 1),
    "token_hex(16)": (lambda: drawn(HEX, 32), 0.85),  # some have the form of a UUID
    "base 36": (lambda: drawn(BASE_36, 32), 0.99),
    "base 32": (lambda: base64.b32encode(Draw.randbytes(20)).decode(), 0.93),  # has few digits
    "itsdangerous": (lambda: f"{drawn(BASE_62, 36)}.{drawn(BASE_64, 6)}.{drawn(BASE_64, 27)}", 0.999),
}
"""Kinds of token, and the share that is recognised."""


@pytest.mark.parametrize("kind", TOKENS)
def test_tokens_are_hidden_by_their_form(kind: str) -> None:
    """Nearly all that are drawn at random, wherever they stand in the path; nothing else of it."""
    make, least = TOKENS[kind]
    hidden = [redact_path(f"/v1/reset/{make()}/confirm") == "/v1/reset/***/confirm" for _ in range(5_000)]
    assert sum(hidden) / len(hidden) >= least


def test_web_tokens_are_hidden() -> None:
    """A JWT, whatever is behind it."""
    assert redact_path(f"/invitations/{WEB_TOKEN}/accept") == "/invitations/***/accept"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/essays/7",
        "/01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "/0ujtsYcgvSTl8PAuAdqWYSMnLOv",
        "/v1/the-quick-brown-fox-jumps-over-the-lazy-dog-2024",
        "/files/Essay-2024-Final-Version-Of-My-Report-2.docx",
        "/files/IMG_20240101_120000_HDR_final_v2_corrected.jpg",
        "/EssayFeedbackServiceVersion2Resources/x",
        "/from/2026-11-28T12:30:00.000000+00:00/report",
        "/topics/huleedu.essay.spellcheck.completed.v1/0/123",
        "/prov/student_prompt_och_elevtexter_åk9_nationella_prov.docx",
        "/u/anna.andersson@example.org/essays/of/the/last/term",
    ],
)
def test_ids_words_and_files_stay(path: str) -> None:
    """What readers of a trace need, also when it is long."""
    assert redact_path(path) == path


def test_uuids_stay() -> None:
    """In any form, alone, joined, or with words around them."""
    for _ in range(1_000):
        one, two = (UUID(int=Draw.getrandbits(128), version=4) for _ in range(2))
        for segment in (str(one), one.hex, str(one).upper(), f"essay-{one}.pdf", f"{one}:{two}", f"{one}_{two.hex}"):
            assert redact_path(f"/v1/essays/{segment}/x") == f"/v1/essays/{segment}/x"


def test_parameters_of_a_path_are_hidden_by_their_names() -> None:
    """As in a query."""
    assert redact_path("/essays;token=x1/7") == "/essays;token=***"


def test_the_operation_of_an_error_has_no_token() -> None:
    """Method and path of the request are in every error and its log line."""
    with operation_scope(coordinates={"method": "POST", "path": f"/reset/{WEB_TOKEN}"}):
        context = ErrorContext.current()
    assert (context.operation, context.coordinates["path"]) == ("POST /reset/***", "/reset/***")


@pytest.mark.parametrize("part", ["a", "aB1", "a" * 31 + "-", "0", "/x", "eyJ", "a=", "=@"])
def test_a_hostile_path_costs_time_in_proportion(part: str) -> None:
    """Twenty times as long takes no more than a hundred times as long, of whatever it is made."""

    def fastest(path: str) -> float:
        took = []
        for _ in range(7):
            began = time.thread_time()
            redact_path(path)
            took.append(time.thread_time() - began)
        return min(took)

    short, long = part * (1_000 // len(part)), part * (20_000 // len(part))
    assert fastest(f"/{long}") < 100 * fastest(f"/{short}") + 0.001
