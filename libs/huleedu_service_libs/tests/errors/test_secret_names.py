"""Which names tell a secret, and which texts hold one: by spelling, by value, by the policy of the process."""

from typing import Any

import pytest

from huleedu_service_libs._plain import flat_entries, plain
from huleedu_service_libs._redaction import is_sensitive_name, redact_text
from huleedu_service_libs.error_handling import (
    RedactionPolicy,
    configure_redaction,
)

SECRET = "hunter2-S3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+asyncpg://user:{}@db:5432/x",
        "redis://:{}@host",
        "cannot connect to amqp://u:{}@h, giving up",
        "sent Bearer {}",
        "password={}",
        "PASSWORD='{}'",
        'db_password="{}", host="x"',
        "{{'password': '{}'}}",
        '{{"api_key": "{}", "x": 1}}',
        '{{"client-secret":"{}"}}',
        "Settings(api_key='{}', n=1)",
        "GET /x?access_token={}&y=2",
        "?token={}",
        "X-Api-Key={}",
        "refresh_token={};",
        "private_key={}",
        "pwd={}",
        "login failed, password: {}",
        "X-Api-Key: {}",
        "[('accept', 'x'), ('x-api-key', '{}')]",
        "api_key: {}",
        "passwd:{}",
        "password = {}",
        "password: {} for user anna",
        "https://x/?pass={}",
        "https://x/?key={}&a=1",
        "https://x/?a=1&sig={}",
        "https://x/?a=1&signature={}",
        '{{\\"password\\": \\"{}\\"}}',
    ],
)
def test_secrets_in_texts(text: str) -> None:
    """The secret of a URL, a pair, a header, an argument gives way to a mask, and everything around it stays."""
    shown = redact_text(text.format(SECRET))
    assert shown == text.format("***")
    assert redact_text(shown) == shown


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://u:{}p@ss@host/path", "http://u:***@host/path"),
        ("Authorization: Bearer {}", "Authorization: ***"),
        ("authorization=Basic {}", "authorization=***"),
        ("{{'Authorization': 'Bearer {}', 'a': 1}}", "{'Authorization': '***', 'a': 1}"),
        ("Proxy-Authorization: Digest {}", "Proxy-Authorization: ***"),
        ("Set-Cookie: session={}; HttpOnly", "Set-Cookie: ***"),
        ("{{'cookie': ['a', '{}']}}", "{'cookie': ***"),
        ("{{'password': b'x {}'}}", "{'password': '***'}"),
        ("password='it\\'s {}'", "password='***'"),
        ("password=Value(a=1, b='{}')", "password=***"),
        ("{{'secret': {{'a': 1, 'b': ['{}']}}}}", "{'secret': ***"),
        ("a lone eyJhbGciOiJIUzI1NiJ9.{}.c2ln", "a lone ***"),
        ("[(b'cookie', b'sid={}')]", "[(b'cookie', '***')]"),
        ("AccountName=a;AccountKey={}==;", "AccountName=a;AccountKey=***;"),
        ('{{\\"password\\": \\"it is {}', '{\\"password\\": \\"***\\"'),
        ("postgres://u:p'{}@host", "postgres://u:***@host"),
        ('mongodb://u:p"{}@host', "mongodb://u:***@host"),
        (
            "1 validation error for P\npassword\n  Input should be an integer [type=int, input_value='{}', input_type=str]",
            "1 validation error for P\npassword\n  Input should be an integer [type=int, input_value=***, input_type=str]",
        ),
    ],
)
def test_secrets_that_are_more_than_a_word(text: str, masked: str) -> None:
    """Where scheme, quotes, lists or nested values belong to the secret they go with it; the rest stays."""
    assert redact_text(text.format(SECRET)) == masked
    assert redact_text(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "Email verification token is invalid",
        "bearer authentication required",
        "Basic authentication failed",
        "password: must be at least 8 characters",
        "X-User-Token: the token is missing",
        "Invalid email or password",
        "User not found: anna@example.com",
        "https://host/path?q=me@example.com",
        "token_type is refresh",
        "Authorization: user may not delete batch 5",
        "My favourite cookie: chocolate chips, and so on",
        "Basic understanding2 of the text",
        "basic electroencephalography",
        "the essay's token=3",
        "tokens=['The', 'dog']",
        "password: required",
        "password_min_length=12",
        "the secretary: Ann",
        "",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    """Messages that only speak of passwords and tokens are not touched, nor are e-mail addresses by default."""
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "Password2",
        "user_pwd",
        "passwordHash",
        "apiKey",
        "X-Api-Key",
        "access_token",
        "X-User-Token",
        "refreshToken",
        "Authorization",
        "Set-Cookie",
        "client_secret",
        "private-key",
        "db credentials",
        "sessionId",
        "pass",
        "db_pass",
        "pw",
        "auth_key",
        "client_key",
        "connection_string",
        "signature",
        "access_token_v2",
        "token[0]",
        "passWord",
        "tOKEN",
    ],
)
def test_names_that_tell_a_secret(name: str) -> None:
    """In any spelling; nothing is hidden under them where there is nothing."""
    assert is_sensitive_name(name, "x")
    assert is_sensitive_name(name, ["x"])
    assert not is_sensitive_name(name, None)
    assert not is_sensitive_name(name, value=True)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "token_type",
            "tokens_used",
            "config_key",
            "field",
            "email",
            "author",
            "compass",
            "laptop",
            "max_tokens",
            "storage_key",
        ),
        *("page_token", "secretary", "cookies_accepted", "api_keyword", "password_min_length", "first_pass"),
        *("failed_password_attempts", "IDENTITY_PASSWORD_RESET_NOT_REQUESTED", "compass_word"),
    ],
)
def test_names_that_do_not(name: str) -> None:
    """Kinds and counts of tokens, what is said about secrets, and words that merely look alike."""
    assert not is_sensitive_name(name, "x")
    assert not is_sensitive_name("max_tokens", 512)


def test_the_value_decides_with_the_name() -> None:
    """Numbers are secrets only where codes are numbers; lists under ``tokens`` are the words of a text."""
    assert not is_sensitive_name("password", 3)
    assert all(is_sensitive_name(name, 1234) for name in ("otp", "otp_code", "passcode", "pin"))
    assert not is_sensitive_name("tokens", ["The", "dog"])
    assert not is_sensitive_name("tokens", {"prompt": 1})
    assert is_sensitive_name("tokens", "x")


def test_the_policy_is_the_process_own() -> None:
    """E-mail addresses and further names are hidden once somebody asks for it."""
    text = "User not found: anna.b@example.com"
    try:
        configure_redaction(RedactionPolicy(emails=True, names=frozenset({"Personal-Number"})))
        assert redact_text(text) == "User not found: ***"
        assert plain({"personalNumber": "19121212", "to": ["anna@example.se"]}) == {
            "personalNumber": "***",
            "to": ["***"],
        }
    finally:
        configure_redaction(RedactionPolicy())
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        *("://", "a", "password", "token=", "'token", "bearer ", "eyJ", "x_", "authorization:", "@", "-", "_", "."),
        *(
            "key ",
            "cookie ",
            "cookie\n",
            "token='\\",
            "\\",
            "a@",
            "pin[",
            "?key",
            "input_value=",
            "token:\\'",
            "Basic a",
        ),
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    """The rules take linear time: a million characters made to defeat them are done with at once."""
    import time  # noqa: PLC0415  # of this test only

    started = time.process_time()
    redact_text("key " + (piece * 1_000_000)[:1_000_000] + "token@")
    assert time.process_time() - started < 5


class _Unreadable(dict[str, Any]):
    """A mapping whose own code fails where it is asked for a name."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(key)


def test_what_nobody_can_tell_is_hidden() -> None:
    """Where it cannot be found out whether a value is named secret, it is not shown."""
    assert flat_entries(_Unreadable(field="password", value=SECRET))["value"] == "***"
