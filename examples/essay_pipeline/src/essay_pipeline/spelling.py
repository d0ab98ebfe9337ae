"""A spell checker for English and Swedish on hunspell dictionaries.

*spellcheck* uses it on every essay, the demo asks it which words it knows. It
knows nothing of events, databases or HTTP.

What counts as misspelt, in short:

- A lower-case word that the dictionary does not know, always.
- A capitalised one only where a sentence begins, and only if the text does not use the same word
  capitalised inside a sentence as well: otherwise it is taken for a name.
- Never: words with digits, words in capitals, single letters, URLs, e-mail addresses.
- In English, British spellings of words that the American dictionary knows (``colour``,
  ``realise``) are right.

Suggestions do not come from hunspell's own ``suggest``: that takes up to half a second for one word
and, since the binding holds the GIL all along, would stop the event loop even from a thread.
`_candidates` proposes the likely slips first (swapped letters, missing dots, wrong doubling) and the
dictionary says which of them are words: many short calls, between which other threads run.

Measured on 2 cores (``python examples/essay_pipeline/tests/measure_spelling.py``): a shipped text with
slips takes 3 ms (median; p90 21 ms, p99 130 ms) on a new checker and 0.5 ms when its words were seen
before; 20 000 characters of Swedish nonsense take 1.7 s, which is why services check in a thread.
"""

import re
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

import hunspell
from pydantic import BaseModel, ConfigDict

from essay_pipeline.contracts import Language

__all__ = ["DictionaryMissingError", "Misspelling", "SpellChecker", "count_words"]

MAX_SUGGESTIONS: Final = 5
"""Suggestions per misspelling."""

MAX_SUGGESTED_WORDS: Final = 25
"""Distinct words of one text that get suggestions; the rest are reported without."""

_KNOWN_CACHE = 50_000  # words per language, roughly 10 MB
_SUGGESTIONS_CACHE = 5_000  # words per language
_MAX_WORD = 64  # characters; longer ones are not looked up: compound search is exponential in the worst case
_MAX_SUGGESTED_LENGTH = 24  # characters; longer words get no suggestions
_MAX_DOUBLE_EDITS = 600  # candidates with two likely slips that are tried for one word

_LETTER = r"[^\W\d_][\u0300-\u036f]*"  # with the combining marks of decomposed text
_WORD = re.compile(rf"(?:{_LETTER}|\d)+(?:['\u2019:\u2010\u2011-](?:{_LETTER}|\d)+)*")
_SKIPPED = re.compile(r"(?:https?://|www\.)\S+|[^\s@<>]+@[^\s@<>]+\.\w+", re.IGNORECASE)
_SENTENCE_START = re.compile(
    r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bProf)[.!?\u2026][\s\"'\u201c\u201d\u2018\u2019\u00ab\u00bb(\u2013\u2014-]*$"
)
_LOOK_BACK = 12  # characters before a word that decide whether it begins a sentence
_PART = re.compile(r"[^:\u2010\u2011-]+")

_SOURCES: Final[dict[Language, tuple[str, str]]] = {
    "en": ("en_US", "chunspell"),
    "sv": ("sv_SE", "hunspell-sv"),
}
"""Dictionary and the package that brings it."""

_BRITISH: Final = (
    (re.compile(r"our"), "or"),
    (re.compile(r"is(?=e|ing|ation)"), "iz"),
    (re.compile(r"ys(?=e|ing)"), "yz"),
    (re.compile(r"tre(?=s?$)"), "ter"),
    (re.compile(r"ll(?=ed$|ing$|er$)"), "l"),
    (re.compile(r"ence(?=s?$)"), "ense"),
)

_ALPHABETS: Final[dict[Language, str]] = {
    "en": "etaoinshrdlucmfwypvbgkjqxz",
    "sv": "eantrsildomkgväfhupåöbcyjxwzqé",
}


def _pairs(text: str) -> dict[str, str]:
    """``"a:eo b:p"`` as ``{"a": "eo", "b": "p"}``."""
    return {pair[0]: pair[2:] for pair in text.split()}


_CONFUSED: Final[dict[Language, dict[str, str]]] = {
    "en": _pairs("a:eiouy e:aiouy i:aeouy o:aeiuy u:aeioy y:aeiou c:sk s:cz k:c z:s f:v v:f d:t t:d g:j j:g"),
    "sv": _pairs("a:åäe å:ao ä:ae e:äa o:öåu ö:oå u:oy y:ui i:ye s:c c:sk k:gc g:kj j:g d:t t:d v:f f:v"),
}
"""Which letters pupils take for which."""


class DictionaryMissingError(RuntimeError):
    """A dictionary's files are not installed.

    Attributes:
        language: Whose dictionary it is.
        package: What to install.
    """

    def __init__(self, language: str, dictionary: str, package: str) -> None:
        super().__init__(
            f"The dictionary {dictionary} for language {language!r} was not found: install the package {package!r}",
        )
        self.language = language
        self.package = package


class Misspelling(BaseModel):
    """One word that the dictionary does not know.

    Attributes:
        word: As it stands in the text.
        start: Index of its first character in the text, in code points.
        end: Index after its last character.
        suggestions: What may have been meant, best first, at most `MAX_SUGGESTIONS`.
    """

    model_config = ConfigDict(frozen=True)

    word: str
    start: int
    end: int
    suggestions: list[str]


@dataclass(frozen=True, slots=True)
class _Token:
    word: str
    start: int
    begins_sentence: bool

    @property
    def end(self) -> int:
        return self.start + len(self.word)


def count_words(text: str) -> int:
    """Words in ``text`` as the checker sees them; numbers count, punctuation does not."""
    return sum(1 for _ in _WORD.finditer(text))


class SpellChecker:
    """Checks texts; loads both dictionaries when made (about 0.5 s).

    Every method may be called from any thread. The binding never releases the GIL, so threads do not
    make it faster, but each call of it is short (well under 1 ms): with ``asyncio.to_thread`` the
    event loop keeps running beside a check.
    """

    def __init__(self) -> None:
        """Load the dictionaries.

        Raises:
            DictionaryMissingError: One of them is not installed.
        """
        self._dictionaries: dict[Language, _Dictionary] = {"en": _Dictionary("en"), "sv": _Dictionary("sv")}

    def knows(self, word: str, language: Language) -> bool:
        """Whether the dictionary (or a rule of this module) accepts ``word`` by itself."""
        return self._dictionaries[language].accepts(word)

    def check(self, text: str, language: Language) -> list[Misspelling]:
        """The misspelt words of ``text``, in its order; every occurrence is reported.

        The result depends on the arguments only, not on what was checked before.
        """
        dictionary = self._dictionaries[language]
        unknown = [token for token in _tokens(text) if not dictionary.accepts(token.word)]
        names = {token.word for token in unknown if token.word[0].isupper() and not token.begins_sentence}
        suggested: dict[str, list[str]] = {}
        found: list[Misspelling] = []
        for token in unknown:
            if token.word in names or not (token.word[0].islower() or token.begins_sentence):
                continue
            if token.word not in suggested and len(suggested) < MAX_SUGGESTED_WORDS:
                suggested[token.word] = list(dictionary.suggest(token.word))
            found.append(
                Misspelling(
                    word=token.word,
                    start=token.start,
                    end=token.end,
                    suggestions=suggested.get(token.word, []),
                ),
            )
        return found


class _Dictionary:
    """One language: cached look-ups behind a lock, and suggestions."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._lock = threading.Lock()  # hunspell keeps state while it searches; the binding does not say it is safe
        self._hunspell = _load(language)
        self._known = lru_cache(maxsize=_KNOWN_CACHE)(self._look_up)
        self._cached_suggestions = lru_cache(maxsize=_SUGGESTIONS_CACHE)(self._find_suggestions)

    def accepts(self, word: str) -> bool:
        plain = _plain(word)
        if _is_exempt(plain) or self._known(plain):
            return True
        stem = plain.removesuffix("'s")
        if stem != plain and self._known(stem):
            return True
        parts = _PART.findall(plain)
        return len(parts) > 1 and all(_is_exempt(part) or self._known(part) for part in parts)

    def suggest(self, word: str) -> tuple[str, ...]:
        plain = _plain(word)
        if len(plain) > _MAX_SUGGESTED_LENGTH:
            return ()
        if plain[0].isupper():
            return tuple(hit[0].upper() + hit[1:] for hit in self._cached_suggestions(plain.lower()))
        return self._cached_suggestions(plain)

    def _look_up(self, word: str) -> bool:
        return self._spell(word) or (self._language == "en" and self._is_british(word))

    def _spell(self, word: str) -> bool:
        if len(word) > _MAX_WORD:
            return False
        try:
            with self._lock:
                return bool(self._hunspell.spell(word))
        except UnicodeEncodeError:  # letters outside the dictionary's encoding; the English one is ISO 8859-1
            return False

    def _is_british(self, word: str) -> bool:
        variants = (pattern.sub(american, word) for pattern, american in _BRITISH)
        return any(variant != word and self._spell(variant) for variant in variants)

    def _find_suggestions(self, word: str) -> tuple[str, ...]:
        """The words of the likeliest kind of slip that leads to any; duplicates left out."""
        for candidates in _candidates(word, self._language):
            # Not through the cache of known words: hundreds of non-words would push out real ones.
            hits = list(islice((hit for hit in dict.fromkeys(candidates) if self._is_word(hit)), MAX_SUGGESTIONS))
            if hits:
                return tuple(hits)
        return ()

    def _is_word(self, candidate: str) -> bool:
        return all(self._spell(part) for part in candidate.split(" "))


def _load(language: Language) -> hunspell.Hunspell:
    name, package = _SOURCES[language]
    folder = _folder_of(package, f"{name}.dic")
    if folder is None:
        raise DictionaryMissingError(language, name, package)
    try:
        # Both said aloud: the binding would take the folder from the environment, and encode its path
        # as the locale says, which is ASCII under LANG=C.
        return hunspell.Hunspell(name, hunspell_data_dir=str(folder), system_encoding="UTF-8")
    except hunspell.HunspellFilePathError as error:
        raise DictionaryMissingError(language, name, package) from error


def _folder_of(distribution: str, file_name: str) -> Path | None:
    """Where an installed distribution put ``file_name``, if it is there."""
    try:
        recorded = files(distribution) or []
    except PackageNotFoundError:
        return None
    for entry in recorded:
        path = Path(str(entry.locate()))
        if entry.name == file_name and path.is_file():
            return path.resolve().parent
    return None


def _tokens(text: str) -> Iterator[_Token]:
    skipped = [match.span() for match in _SKIPPED.finditer(text)]
    first = True
    for match in _WORD.finditer(text):
        start, end = match.span()
        begins = first or _SENTENCE_START.search(text, max(0, start - _LOOK_BACK), start) is not None
        first = False
        if any(left <= start and end <= right for left, right in skipped):
            continue
        yield _Token(match.group(), start, begins)


def _plain(word: str) -> str:
    """As dictionaries write it: composed letters, straight apostrophe, plain hyphen."""
    composed = unicodedata.normalize("NFC", word)
    return composed.replace("\u2019", "'").replace("\u2010", "-").replace("\u2011", "-")


def _is_exempt(word: str) -> bool:
    """Words that are never looked up: single letters, with digits, or abbreviations in capitals (``TV:n``)."""
    first = word.split(":", 1)[0].removesuffix("'s")
    return len(word) == 1 or any(character.isdigit() for character in word) or first.isupper()


def _candidates(word: str, language: Language) -> Iterator[Iterator[str]]:
    """What may have been meant, in groups, the likeliest first; words and non-words alike."""
    yield _likely(word, language)
    yield _one_edit(word, language)
    yield islice((twice for once in _likely(word, language) for twice in _likely(once, language)), _MAX_DOUBLE_EDITS)


def _likely(word: str, language: Language) -> Iterator[str]:
    """Slips of pupils: case of names, dots, swapped letters, wrong doubling, confused letters."""
    yield word[0].upper() + word[1:]
    if language == "en" and "'" not in word:
        yield from (f"{word[:i]}'{word[i:]}" for i in range(1, len(word)))
    places = range(len(word))
    if language == "en":  # the h that is not heard
        yield from (word[: i + 1] + "h" + word[i + 1 :] for i in places if word[i] in "cgptw")
    if language == "sv":
        dots = {"a": "äå", "o": "öå"}
        yield from (word[:i] + dotted + word[i + 1 :] for i in places for dotted in dots.get(word[i], ""))
    yield from (word[:i] + b + a + word[i + 2 :] for i, (a, b) in enumerate(pairwise(word)) if a != b)
    yield from (word[:i] + word[i + 1 :] for i, (a, b) in enumerate(pairwise(word)) if a == b)
    yield from (word[: i + 1] + word[i:] for i in places)
    confused = _CONFUSED[language]
    yield from (word[:i] + other + word[i + 1 :] for i in places for other in confused.get(word[i], ""))


def _one_edit(word: str, language: Language) -> Iterator[str]:
    """A letter missing, too many or wrong; in English two words run together."""
    alphabet = _ALPHABETS[language]
    yield from (word[:i] + letter + word[i:] for i in range(len(word) + 1) for letter in alphabet)
    yield from (word[:i] + word[i + 1 :] for i in range(len(word)) if len(word) > 1)
    yield from (word[:i] + letter + word[i + 1 :] for i in range(len(word)) for letter in alphabet if letter != word[i])
    if language == "en":
        yield from (f"{word[:i]} {word[i:]}" for i in range(1, len(word)) if _may_split(word[:i], word[i:]))


def _may_split(first: str, second: str) -> bool:
    return (len(first) > 1 or first == "a") and len(second) > 1
