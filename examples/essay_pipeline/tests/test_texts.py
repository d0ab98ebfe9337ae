"""The shipped texts: enough of them, well formed, and free to ship."""

import json
from collections import Counter
from dataclasses import FrozenInstanceError

import pytest
from pydantic import TypeAdapter, ValidationError

from essay_pipeline.texts import Essay, load_essays

ESSAYS = load_essays()


def test_there_are_a_few_dozen_in_both_languages() -> None:
    """The demo can draw on at least 36 texts, a good part of them Swedish."""
    languages = Counter(essay.language for essay in ESSAYS)
    assert languages.total() >= 36
    assert languages["en"] >= 22
    assert languages["sv"] >= 14


def test_every_text_and_id_is_there_once() -> None:
    """No two essays share an id or a text."""
    assert len({essay.id for essay in ESSAYS}) == len({essay.text for essay in ESSAYS}) == len(ESSAYS)


@pytest.mark.parametrize("essay", ESSAYS, ids=lambda essay: essay.id)
def test_each_is_short_and_clean(essay: Essay) -> None:
    """A text has 60 to 220 words, no stray spaces and no broken characters."""
    assert 60 <= len(essay.text.split()) <= 220
    assert essay.text == essay.text.strip()
    assert "  " not in essay.text
    assert "\ufffd" not in essay.text
    assert all(line == line.strip() for line in essay.text.split("\n"))


@pytest.mark.parametrize("essay", [essay for essay in ESSAYS if essay.language == "sv"], ids=lambda essay: essay.id)
def test_swedish_texts_have_their_letters(essay: Essay) -> None:
    """å, ä and ö survived the way into the file, as single code points."""
    assert set("åäö") & set(essay.text)
    assert "\u0308" not in essay.text
    assert "Ã" not in essay.text


def test_they_are_read_once_and_cannot_change() -> None:
    """Callers share one tuple, and nobody can edit what the others see."""
    assert load_essays() is load_essays()
    with pytest.raises(FrozenInstanceError):
        ESSAYS[0].title = "Another"  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [{"year": 1950}, {"language": "de"}, {"text": ""}, {"id": "Not An Id"}, {"source": ""}, {"isbn": "1"}],
    ids=lambda change: next(iter(change)),
)
def test_a_wrong_entry_is_refused(change: dict[str, object]) -> None:
    """An entry that is too young, in another language, incomplete or has unknown fields does not load."""
    good = {name: getattr(ESSAYS[0], name) for name in ("id", "title", "author", "year", "source", "language", "text")}
    assert TypeAdapter(Essay).validate_json(json.dumps(good)) == ESSAYS[0]
    with pytest.raises(ValidationError):
        TypeAdapter(Essay).validate_json(json.dumps(good | change))
