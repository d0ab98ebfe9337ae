"""Slips: repeatable, few, and where they are said to be."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essay_pipeline.slips import make_slips
from essay_pipeline.spelling import SpellChecker
from essay_pipeline.texts import Essay, load_essays

ESSAYS = load_essays()
essays = st.sampled_from(ESSAYS)
seeds = st.integers(min_value=0, max_value=10_000)


@pytest.fixture(scope="module")
def checker() -> SpellChecker:
    """One checker for all tests here: loading takes half a second."""
    return SpellChecker()


@settings(deadline=None)
@given(essay=essays, seed=seeds)
def test_two_to_six_words_change_and_nothing_else(essay: Essay, seed: int) -> None:
    """Undoing the slips from the last to the first gives the original back."""
    slipped = make_slips(essay.text, seed=seed, language=essay.language)
    assert 2 <= len(slipped.slips) <= 6
    text = slipped.text
    for slip in reversed(slipped.slips):
        assert text[slip.start :].startswith(slip.written)
        assert slip.written != slip.original
        text = text[: slip.start] + slip.original + text[slip.start + len(slip.written) :]
    assert text == essay.text


def test_the_same_seed_gives_the_same_slips_in_every_process() -> None:
    """The demo's parts agree on the slips without exchanging them, whatever the hash seed."""
    program = (
        "from essay_pipeline.slips import make_slips; from essay_pipeline.texts import load_essays\n"
        "essay = load_essays()[-1]; print(ascii(make_slips(essay.text, seed=7, language=essay.language)))"
    )
    told = {
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert told == {ascii(make_slips(ESSAYS[-1].text, seed=7, language=ESSAYS[-1].language)) + "\n"}


def test_seeds_make_texts_different() -> None:
    """A few dozen texts and some seeds are enough for 200 different essays."""
    texts = {make_slips(essay.text, seed=seed, language=essay.language).text for essay in ESSAYS for seed in range(5)}
    assert len(texts) >= 200


def test_swedish_slips_lose_their_dots() -> None:
    """Among many Swedish slips some write a for å or ä, or o for ö."""
    slips = [
        slip
        for essay in ESSAYS
        if essay.language == "sv"
        for slip in make_slips(essay.text, seed=1, language="sv").slips
    ]
    dots = str.maketrans("åäö", "aao")
    assert any(slip.written == slip.original.translate(dots) for slip in slips)


@pytest.mark.parametrize("essay", ESSAYS, ids=lambda essay: essay.id)
def test_the_checker_marks_every_slip_that_avoids_words(essay: Essay, checker: SpellChecker) -> None:
    """With the checker's judgement as `is_word`, each slip comes back as a misspelling at its place."""
    language = essay.language
    for seed in range(3):
        slipped = make_slips(
            essay.text, seed=seed, language=language, is_word=lambda word: checker.knows(word, language)
        )
        marked = {(found.word, found.start) for found in checker.check(slipped.text, language)}
        assert len(slipped.slips) >= 2
        assert {(slip.written, slip.start) for slip in slipped.slips} <= marked


def test_a_text_without_long_words_stays_as_it_is() -> None:
    """Where nothing can be hit, nothing is, and no error is raised."""
    assert make_slips("Go on. 12 + 3!", seed=1, language="en").text == "Go on. 12 + 3!"
