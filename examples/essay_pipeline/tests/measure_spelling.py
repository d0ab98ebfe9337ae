"""Prints what spell checking takes.

The shipped texts with slips on a new checker, then again; a text of nonsense;
and single words in hunspell's own ``suggest``, which the checker avoids.

``spelling.py`` quotes the figures. Run it by hand; it is no test.
"""

import random
import statistics
import time
from collections.abc import Callable
from typing import Final

from essay_pipeline import spelling
from essay_pipeline.contracts import Language
from essay_pipeline.slips import make_slips
from essay_pipeline.spelling import SpellChecker
from essay_pipeline.texts import load_essays

LANGUAGES: Final[tuple[Language, ...]] = ("en", "sv")
WORDS: Final[dict[Language, list[str]]] = {
    "en": ["recieve", "definately", "thier", "becuse"],
    "sv": ["skloa", "karlek", "somarlov", "intresant"],
}
_CHANCE = random.Random(1)  # noqa: S311 - nonsense, no secret
NONSENSE: Final = " ".join("".join(_CHANCE.choices("aeiorstnlkm", k=11)) for _ in range(1_666))


def main() -> None:
    """Measure and print."""
    checker = SpellChecker()
    texts = [
        (make_slips(essay.text, seed=seed, language=essay.language).text, essay.language)
        for seed in range(4)
        for essay in load_essays()
    ]
    for state in ("new checker", "same texts again"):
        taken = []
        for text, language in texts:
            taken.append(_milliseconds(checker.check, text, language))
        cuts = statistics.quantiles(taken, n=100)
        print(f"{state}: {len(taken)} texts, median {cuts[49]:.1f} ms, p90 {cuts[89]:.1f} ms, p99 {cuts[98]:.1f} ms")
    for language in LANGUAGES:
        print(f"20 000 characters of nonsense, {language}: {_milliseconds(checker.check, NONSENSE, language):.0f} ms")
        dictionary = spelling._load(language)
        taken = [_milliseconds(dictionary.suggest, word) for word in WORDS[language]]
        print(f"hunspell's suggest, {language}: {min(taken):.0f} to {max(taken):.0f} ms for one word")


def _milliseconds(work: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    work(*arguments)
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    main()
