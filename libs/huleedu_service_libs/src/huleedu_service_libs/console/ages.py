"""How long ago something was, as people say it. The console's sections share it."""

__all__ = ["ago"]

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def ago(seconds: float) -> str:
    """``3 min ago``: whole ones of the largest unit that fits; what lies ahead, by another clock, is now."""
    size, unit = next((each for each in _UNITS if seconds >= each[0]), (1, "s"))
    return f"{max(0.0, seconds) / size:.0f} {unit} ago"
