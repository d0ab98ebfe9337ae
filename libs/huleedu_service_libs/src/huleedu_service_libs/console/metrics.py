"""What the console survives is counted here."""

from huleedu_service_libs._metrics import counter

__all__ = ["CONSOLE_ERRORS"]

CONSOLE_ERRORS = counter(
    "huleedu_console_section_errors_total",
    "Sections of the console that could not read or act",
    ("section", "operation"),
)
