"""Takes secrets out of what leaves the process: URLs, texts, values of fields.

The one place that knows what a secret looks like. Settings and drivers mask
their URLs and tell their errors with it; logs, spans, error details and error answers pass through
it. `names` tells by the name of a field (`neighbours` by a value that is one), `urls`, `paths` and `texts` by what is written, `policy` is what a
service hides beyond that.
"""

from huleedu_service_libs._redaction.errors import error_fields, error_text
from huleedu_service_libs._redaction.names import is_plain_name, is_sensitive_name
from huleedu_service_libs._redaction.paths import redact_path
from huleedu_service_libs._redaction.policy import RedactionPolicy, configure_redaction, on_policy_change
from huleedu_service_libs._redaction.texts import redact_text, redact_within
from huleedu_service_libs._redaction.urls import MASK, mask_url_credentials, mask_whole_url

__all__ = [
    "MASK",
    "RedactionPolicy",
    "configure_redaction",
    "error_fields",
    "error_text",
    "is_plain_name",
    "is_sensitive_name",
    "mask_url_credentials",
    "mask_whole_url",
    "on_policy_change",
    "redact_path",
    "redact_text",
    "redact_within",
]
