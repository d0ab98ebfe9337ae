"""A few dozen short public-domain texts, English and Swedish, for the page and the demo driver.

The texts live in ``essays.json`` beside this module; ``README.md`` there says
where they come from. Nothing here knows the services.
"""

from functools import cache
from importlib.resources import files
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from essay_pipeline.contracts import Language

__all__ = ["Essay", "load_essays"]

_Line = Annotated[str, Field(min_length=1, pattern=r"^\S(.*\S)?$")]


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(extra="forbid", strict=True))
class Essay:
    """One text and where it comes from.

    Attributes:
        id: Stable, unique, safe in a URL.
        title: For people; often the first words, since many passages have no title.
        author: As the work's title page names them.
        year: Of the work's first publication.
        source: Work and chapter, canto or stanza.
        language: Of the text.
        text: The passage; a blank line parts paragraphs and stanzas.
    """

    id: Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$")]
    title: _Line
    author: _Line
    year: Annotated[int, Field(ge=1600, lt=1929)]
    source: _Line
    language: Language
    text: Annotated[str, Field(min_length=100)]


@cache
def load_essays() -> tuple[Essay, ...]:
    """All shipped texts, English first, in the order of the file; read once.

    Raises:
        pydantic.ValidationError: The file does not hold what `Essay` describes.
    """
    raw = files(__package__).joinpath("essays.json").read_bytes()
    return TypeAdapter(tuple[Essay, ...]).validate_json(raw)
