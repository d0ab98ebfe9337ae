"""Pupils' slips, made to order: the same text and seed give the same misspellings.

The demo makes every one of its essays different with it and knows which words
must come back marked. It knows neither the services nor the dictionaries.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from essay_pipeline.contracts import Language

__all__ = ["Slip", "Slipped", "make_slips"]

MIN_SLIPS = 2
MAX_SLIPS = 6

_TRIES = 8  # ways tried on one word before it is left alone
# Lower-case words only: a checker may take a capitalised one for a name. Not beside a hyphen or
# apostrophe: the word would be half of another.
_CANDIDATE = re.compile(r"(?<![\w'\u2019-])[a-zåäö]{4,14}(?![\w'\u2019-])")
_DOTS = str.maketrans("åäö", "aao")


@dataclass(frozen=True, kw_only=True, slots=True)
class Slip:
    """One changed word.

    Attributes:
        original: The word as it was.
        written: The word as it stands in the new text.
        start: Index of ``written`` in the new text, in code points.
    """

    original: str
    written: str
    start: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Slipped:
    """A text with slips.

    Attributes:
        text: The new text.
        slips: What was changed, in the order of the text.
    """

    text: str
    slips: tuple[Slip, ...]


def make_slips(
    text: str,
    *,
    seed: int,
    language: Language,
    is_word: Callable[[str], bool] | None = None,
) -> Slipped:
    """Put two to six typical misspellings into ``text``.

    Args:
        text: What the pupil meant to write.
        seed: Decides how many words are hit, which and how.
        language: Of the text; Swedish letters lose their dots, too.
        is_word: Tells words from non-words. With it only words are hit and no slip happens to be
            another word; without it either may occur.

    Returns:
        The new text and its slips; fewer than two only if the text has too few words of at least
        four letters.
    """
    # Not for secrets: a seeded generator is the point. Text as seed: the same in every process.
    chance = random.Random(f"{seed}:{language}")  # noqa: S311
    wanted = chance.randint(MIN_SLIPS, MAX_SLIPS)
    places = list(_CANDIDATE.finditer(text))
    chance.shuffle(places)
    chosen: dict[int, tuple[str, str]] = {}
    hit: set[str] = set()
    for place in places:
        if len(chosen) == wanted:
            break
        word = place.group()
        if word in hit or (is_word is not None and not is_word(word)):
            continue
        written = _slip(word, language, chance, is_word)
        if written is not None:
            chosen[place.start()] = (word, written)
            hit.add(word)
    return _apply(text, chosen)


def _apply(text: str, chosen: dict[int, tuple[str, str]]) -> Slipped:
    pieces: list[str] = []
    slips: list[Slip] = []
    done = length = 0
    for place in sorted(chosen):
        original, written = chosen[place]
        pieces += [text[done:place], written]
        slips.append(Slip(original=original, written=written, start=length + place - done))
        length += place - done + len(written)
        done = place + len(original)
    return Slipped(text="".join([*pieces, text[done:]]), slips=tuple(slips))


def _slip(word: str, language: Language, chance: random.Random, is_word: Callable[[str], bool] | None) -> str | None:
    ways: Sequence[Callable[[str, random.Random], str]] = (_swap, _double, _drop)
    if language == "sv":
        ways = (*ways, _lose_dots, _lose_dots)  # twice: the slip of a Swedish pupil at a foreign keyboard
    for _ in range(_TRIES):
        written = chance.choice(ways)(word, chance)
        if written != word and not (is_word is not None and is_word(written)):
            return written
    return None


def _swap(word: str, chance: random.Random) -> str:
    """Two neighbours change places; the first letter stays, as people read it first."""
    place = chance.randrange(1, len(word) - 1)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _double(word: str, chance: random.Random) -> str:
    """A letter comes twice, or a double one once."""
    doubled = re.search(r"(.)\1", word)
    if doubled is not None:
        return word[: doubled.start()] + word[doubled.start() + 1 :]
    place = chance.randrange(1, len(word))
    return word[: place + 1] + word[place:]


def _drop(word: str, chance: random.Random) -> str:
    """A letter inside is missing."""
    place = chance.randrange(1, len(word) - 1)
    return word[:place] + word[place + 1 :]


def _lose_dots(word: str, _chance: random.Random) -> str:
    """å, ä and ö become a and o."""
    return word.translate(_DOTS)
