"""How configuration checks its figures: one rule and one wording for each kind of bound.

Called from ``__post_init__`` and constructors with the values by name; ``None`` stands for "not set" and passes.
"""

__all__ = ["at_least_one", "not_negative", "numbers_of", "positive", "values_of", "within"]


def positive(**values: float | None) -> None:
    """Refuse 0 and less, and what is no number.

    Raises:
        ValueError: The text names the first such value.
    """
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")


def not_negative(**values: float | None) -> None:
    """Refuse what is below 0. Raises like `positive`."""
    for name, value in values.items():
        if value is not None and not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value!r}")


def at_least_one(**values: float | None) -> None:
    """Refuse what is below 1. Raises like `positive`."""
    for name, value in values.items():
        if value is not None and not value >= 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")


def within(config: object, **ranges: tuple[float, float]) -> None:
    """Refuse attributes outside of their least and greatest value, and what is no number.

    Args:
        config: Whose; its class stands in the text.
        **ranges: Least and greatest value, by the attribute's name.

    Raises:
        ValueError: The text names the first such attribute.
    """
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        if not least <= value <= most:
            raise ValueError(f"{type(config).__name__}.{name} must be from {least} to {most}, got {value!r}")


def values_of(config: object, *names: str) -> dict[str, float | None]:
    """The attributes of those names."""
    return {name: getattr(config, name) for name in names}


def numbers_of(config: object) -> dict[str, float | None]:
    """All attributes of a data class with slots that are numbers."""
    values = {name: getattr(config, name) for name in type(config).__slots__}  # type: ignore[attr-defined]  # by the caller
    return {
        name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
