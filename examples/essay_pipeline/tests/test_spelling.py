"""The spell checker, on the real dictionaries."""

import asyncio
import statistics
import time
import unicodedata
from importlib import metadata
from importlib.metadata import PackageNotFoundError, PackagePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essay_pipeline import spelling
from essay_pipeline.contracts import Language, MisspellingV1
from essay_pipeline.slips import make_slips
from essay_pipeline.spelling import DictionaryMissingError, SpellChecker, count_words
from essay_pipeline.texts import load_essays

CHECKER = SpellChecker()


def words(text: str, language: Language) -> list[str]:
    """The misspelt words of ``text``."""
    return [found.word for found in CHECKER.check(text, language)]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("recieve", "receive"),
        ("definately", "definitely"),
        ("thier", "their"),
        ("becuse", "because"),
        ("wich", "which"),
        ("accomodation", "accommodation"),
        ("dont", "don't"),
        ("beautifull", "beautiful"),
    ],
)
def test_english_misspellings_get_the_right_word_first(wrong: str, right: str) -> None:
    """Typical English slips are found, and what was meant is the first suggestion."""
    [found] = CHECKER.check(f"I wrote {wrong} here.", "en")
    assert (found.word, found.start, found.end) == (wrong, 8, 8 + len(wrong))
    assert found.suggestions[0] == right
    assert len(found.suggestions) <= 5


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("oppna", "öppna"),
        ("karlek", "kärlek"),
        ("skloa", "skola"),
        ("somarlov", "sommarlov"),
        ("jätttebra", "jättebra"),
        ("fotbolsplan", "fotbollsplan"),
        ("egentligän", "egentligen"),
        ("äpelträd", "äppelträd"),
        ("mäniskorr", "människor"),
    ],
)
def test_swedish_misspellings_get_the_right_word_first(wrong: str, right: str) -> None:
    """Missing dots, swapped and wrongly doubled letters are found, in compounds too."""
    [found] = CHECKER.check(f"Jag skrev {wrong} här.", "sv")
    assert found.word == wrong
    assert found.suggestions[0] == right


def test_swedish_letters_and_compounds_are_right() -> None:
    """Words with å, ä and ö and compounds that no dictionary lists as such are not marked."""
    text = (
        "Ångbåten lade till vid sjön. Svenskläraren åkte till skolgårdsfesten på Öland, över ängarna, med äppelpajen."
    )
    assert words(text, "sv") == []


def test_offsets_count_code_points() -> None:
    """Characters outside the BMP count as one: text[start:end] is the word, in Python's way of counting."""
    text = "🙂🏡 I recieve 👩‍👩‍👧 two leters 🎉"
    found = CHECKER.check(text, "en")
    assert [text[one.start : one.end] for one in found] == ["recieve", "leters"]
    assert found[0].start == 5


def test_decomposed_letters_are_read_and_keep_their_offsets() -> None:
    """Text from macOS file names and the like (a + combining ring) is judged as composed text is."""
    text = unicodedata.normalize("NFD", "Åskan går över ån, men karlek består.")
    [found] = CHECKER.check(text, "sv")
    assert text[found.start : found.end] == found.word == "karlek"


@settings(deadline=None)  # a text of unknown words may take long, and the machine may be busy
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200), language=st.sampled_from(["en", "sv"]))
def test_any_text_is_checked_and_offsets_fit(text: str, language: Language) -> None:
    """Whatever people paste, nothing is raised, offsets ascend and point at the words."""
    end = 0
    for found in CHECKER.check(text, language):
        assert end <= found.start < found.end
        assert text[found.start : found.end] == found.word
        end = found.end


@pytest.mark.parametrize(
    "text",
    [
        "See https://example.org/speling/paeg or mail jonh.doe@exampel.org, or www.exampel.org.",
        "HTTP and NASAA are abbreviations; 3rd, 1800s and B2B have digits.",
        "Don't, it\u2019s, dogs' and the captain\u2019s are right.",
        "A well-known, self-evident mother-in-law.",
        "My neighbour realised the colour of the theatre's centre and travelled on.",
        "We met Trelawney and Mr. Utterson. Trelawney smiled.",
    ],
)
def test_what_is_no_misspelling_in_english(text: str) -> None:
    """Addresses, abbreviations, numbers, apostrophes, hyphens, British spellings and names are left alone."""
    assert words(text, "en") == []


@pytest.mark.parametrize(
    "text",
    [
        "Under 1800-talet kom TV:n och SMS:et inte, men bild- och formlära fanns.",
        "Jag såg Finnbacka-Britta och herr Uttermark i Östanålid.",
    ],
)
def test_what_is_no_misspelling_in_swedish(text: str) -> None:
    """Numbers, abbreviations with endings, hanging hyphens and names are left alone."""
    assert words(text, "sv") == []


def test_capitals_at_the_beginning_of_a_sentence_hide_nothing() -> None:
    """A slip in the first word of a sentence is found; its suggestion is capitalised, too."""
    [found] = CHECKER.check("It rained. Yesterdya it snowed.", "en")
    assert found.word == "Yesterdya"
    assert found.suggestions == ["Yesterday"]


def test_half_of_a_hyphenated_word_may_be_wrong() -> None:
    """A compound with a hyphen is right only if its parts are."""
    assert words("A well-knwon place", "en") == ["well-knwon"]


def test_every_occurrence_is_reported() -> None:
    """A word that is wrong twice is marked twice."""
    assert words("teh cat and teh dog", "en") == ["teh", "teh"]


def test_only_so_many_words_get_suggestions() -> None:
    """A text of nonsense cannot hold the checker up: beyond a limit words come without suggestions."""
    nonsense = [f"beautifull{chr(97 + i)}{chr(97 + j)}" for i in range(6) for j in range(10)]
    found = CHECKER.check(" ".join(nonsense), "en")
    assert len(found) == len(nonsense)
    assert all(not one.suggestions for one in found[spelling.MAX_SUGGESTED_WORDS :])
    assert CHECKER.check("x" * 5_000, "sv")[0].suggestions == []


def test_result_depends_on_the_text_only() -> None:
    """What was checked before changes nothing: caches are not visible."""
    essay = load_essays()[-1]
    text = make_slips(essay.text, seed=3, language=essay.language).text
    assert CHECKER.check(text, essay.language) == SpellChecker().check(text, essay.language)


def test_results_fit_the_event() -> None:
    """A misspelling goes into the event as it is."""
    [found] = CHECKER.check("I recieve it", "en")
    assert MisspellingV1.model_validate(found.model_dump()).model_dump() == found.model_dump()


def test_words_are_counted_as_people_count() -> None:
    """Hyphens and apostrophes join, punctuation and dashes do not count."""
    assert count_words("Don't go \u2013 it's a well-known, 3-mile walk…") == 7
    assert count_words("") == 0


async def test_threads_share_one_checker() -> None:
    """Several essays at once in threads give what they give one by one."""
    texts = [
        (make_slips(essay.text, seed=9, language=essay.language).text, essay.language) for essay in load_essays()[::4]
    ]
    expected = [CHECKER.check(*text) for text in texts]
    fresh = SpellChecker()
    assert await asyncio.gather(*(asyncio.to_thread(fresh.check, *text) for text in texts)) == expected


def test_a_text_takes_a_few_milliseconds() -> None:
    """The median over all texts with slips, on a new checker, stays below 20 ms of the processor."""
    checker = SpellChecker()
    taken = []
    for essay in load_essays():
        text = make_slips(essay.text, seed=11, language=essay.language).text
        began = time.thread_time()
        checker.check(text, essay.language)
        taken.append(time.thread_time() - began)
    assert statistics.median(taken) < 0.020


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the Swedish dictionary the error says which package to install."""

    def missing(distribution: str) -> list[PackagePath] | None:
        if distribution == "hunspell-sv":
            raise PackageNotFoundError(distribution)
        return metadata.files(distribution)

    monkeypatch.setattr(spelling, "files", missing)
    with pytest.raises(DictionaryMissingError, match=r"sv_SE.*install the package 'hunspell-sv'") as caught:
        SpellChecker()
    assert (caught.value.language, caught.value.package) == ("sv", "hunspell-sv")


def test_a_package_without_its_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed but lost its files gives the same error as one that is not."""
    monkeypatch.setattr(spelling, "files", lambda _: None)
    with pytest.raises(DictionaryMissingError, match=r"en_US.*chunspell"):
        SpellChecker()
