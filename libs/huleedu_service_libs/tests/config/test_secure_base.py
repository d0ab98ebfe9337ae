"""`SecureServiceSettings` and the masking of URLs."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common_core.config_enums import Environment
from huleedu_service_libs._redaction import error_fields, error_text, mask_url_credentials
from huleedu_service_libs.config import SecureServiceSettings
from huleedu_service_libs.config.secure_base import InsecureSettingsWarning


class Settings(SecureServiceSettings):
    """As a service has it."""

    model_config = SettingsConfigDict(env_prefix="ESSAY_", env_file=".env", extra="ignore")
    SERVICE_NAME: str = "essay_service"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no env file of the machine reaches a test."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name == "ENVIRONMENT" or name.startswith(("HULEEDU_DB", "HULEEDU_PROD", "HULEEDU_INTERNAL", "ESSAY_")):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    """Without anything set this is development, with empty secrets, and nothing fails."""
    settings = Settings()
    assert settings.ENVIRONMENT is Environment.DEVELOPMENT
    assert (settings.get_db_password(), settings.get_internal_api_key()) == ("", "")


@pytest.mark.parametrize(
    ("environment", "answers"),
    [
        ("production", (True, False, False, False, True)),
        ("development", (False, True, False, False, False)),
        ("staging", (False, False, True, False, True)),
        ("testing", (False, False, False, True, False)),
    ],
)
def test_environment(monkeypatch: pytest.MonkeyPatch, environment: str, answers: tuple[bool, ...]) -> None:
    """Each environment answers its own question; production and staging require security."""
    monkeypatch.setenv("ENVIRONMENT", environment)
    settings = Settings()
    assert answers == (
        settings.is_production(),
        settings.is_development(),
        settings.is_staging(),
        settings.is_testing(),
        settings.requires_security(),
    )


def test_variables_ignore_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared variables have one name for all services."""
    monkeypatch.setenv("ESSAY_DB_PASSWORD", "wrong")
    monkeypatch.setenv("HULEEDU_DB_PASSWORD", "right")
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "key")
    assert (Settings().get_db_password(), Settings().get_internal_api_key()) == ("right", "key")


@pytest.mark.parametrize("render", [str, repr, "{}".format])
def test_text_shows_no_secret(render: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of settings names service and environment, and masks the rest."""
    monkeypatch.setenv("HULEEDU_DB_PASSWORD", "hemligt")
    assert render(Settings()) == "Settings(service=essay_service, environment=development, secrets=***MASKED***)"


def test_service_without_a_name() -> None:
    """A service that declares no name is unknown."""
    assert "service=unknown" in str(SecureServiceSettings())


def test_service_may_redeclare_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that re-declare ENVIRONMENT, even as text, keep working."""

    class Redeclared(Settings):
        ENVIRONMENT: Any = Field(default="staging", validation_alias="ENVIRONMENT")

    assert Redeclared().requires_security()
    assert "environment=staging" in repr(Redeclared())


def test_shared_credentials_from_the_env_file(tmp_path: Path) -> None:
    """What stands in the env file counts as much as the process environment."""
    (tmp_path / ".env").write_text("HULEEDU_DB_USER=u\nHULEEDU_DB_PASSWORD=p@\n")
    assert Settings().get_shared_database_credentials() == {"db_user": "u", "db_password": "p@"}


@pytest.mark.parametrize("missing", ["HULEEDU_DB_USER", "HULEEDU_DB_PASSWORD"])
def test_shared_credentials_name_what_is_missing(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Half a credential is refused, and the text says which variable to set."""
    monkeypatch.setenv("HULEEDU_DB_USER", "u")
    monkeypatch.setenv("HULEEDU_DB_PASSWORD", "p")
    monkeypatch.delenv(missing)
    with pytest.raises(ValueError, match=rf"set {missing} in"):
        Settings().get_shared_database_credentials()


def test_production_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Port and user have defaults; process environment, even set later, goes before the env file."""
    (tmp_path / ".env").write_text("ENVIRONMENT=production\nHULEEDU_PROD_DB_HOST=file\nHULEEDU_PROD_DB_PASSWORD=p\n")
    settings = Settings()
    expected = {"host": "file", "port": "5432", "password": "p", "user": "huleedu_user"}
    assert settings.get_production_database_credentials() == expected
    for name, value in {"HOST": "later", "PORT": "6432"}.items():
        monkeypatch.setenv(f"HULEEDU_PROD_DB_{name}", value)
    monkeypatch.setenv("HULEEDU_DB_USER", "me")
    assert settings.get_production_database_credentials() == {
        "host": "later",
        "port": "6432",
        "password": "p",
        "user": "me",
    }


def test_production_credentials_outside_production() -> None:
    """Nobody gets production's credentials elsewhere."""
    with pytest.raises(ValueError, match="environment 'development'"):
        Settings().get_production_database_credentials()


def test_production_credentials_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text names both missing variables."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(ValueError, match="HULEEDU_PROD_DB_HOST and HULEEDU_PROD_DB_PASSWORD"):
        Settings().get_production_database_credentials()


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_empty_secret_warns_where_it_matters(monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    """Asking for an empty secret in production or staging returns it with a warning."""
    monkeypatch.setenv("ENVIRONMENT", environment)
    settings = Settings()
    with pytest.warns(InsecureSettingsWarning, match="HULEEDU_DB_PASSWORD is empty") as caught:
        assert settings.get_db_password() == ""
    assert caught[0].filename == __file__
    with pytest.warns(InsecureSettingsWarning, match="HULEEDU_INTERNAL_API_KEY is empty"):
        assert settings.get_internal_api_key() == ""


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql+asyncpg://u:p@h:5432/db", "postgresql+asyncpg://u:***@h:5432/db"),
        ("postgresql://u:p@ss:w@rd@h/db", "postgresql://u:***@h/db"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("postgresql://u:a/b@c@h/db?x=1", "postgresql://u:***@h/db?x=1"),
        ("postgresql://u:a?b#c@h/db", "postgresql://u:***@h/db"),
        ("redis://:s@h/0?mail=a@b", "redis://:***@b"),
        ("postgresql://u:p@[::1]:5432/db", "postgresql://u:***@[::1]:5432/db"),
        ("postgresql://u@h/db?password=p&ssl=on", "postgresql://u@h/db?password=***&ssl=on"),
        ("u:p@h", "u:***@h"),
        ("redis://h", "redis://h"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql://u:@h/db", "postgresql://u:@h/db"),
        ("no url: a@b", "no url: a@b"),
        ("", ""),
    ],
)
def test_masking(url: str, masked: str) -> None:
    """Only the password goes; user, host, port and database stay."""
    assert mask_url_credentials(url) == masked
    assert Settings().database_url_masked(url) == masked


@given(password=st.text(st.characters(codec="utf-8"), min_size=1))
def test_blanks_of_a_password_hide_none_of_it(password: str) -> None:
    """SQLAlchemy takes a password with blanks and line breaks in a URL; nothing of it remains either."""
    masked = Settings().database_url_masked(f"postgresql://u:{password}@h:5432/db")
    assert masked == "postgresql://u:***@h:5432/db"


@given(password=st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1))
def test_no_password_survives_masking(password: str) -> None:
    """Whatever a password consists of, nothing of it remains."""
    masked = mask_url_credentials(f"postgresql://u:{password}@h:5432/db")
    assert masked == "postgresql://u:***@h:5432/db"


@given(text=st.text())
def test_masking_never_fails(text: str) -> None:
    """Any text is accepted, and masking it twice changes nothing more."""
    once = mask_url_credentials(text)
    assert mask_url_credentials(once) == once


def _reference(url: str) -> str:
    """The rule as one expression: exact, and slow for long texts."""

    def mask(found: re.Match[str]) -> str:
        user, separator, password = found["userinfo"].partition(":")
        return f"{found['scheme']}{user}:***@" if separator and password else found[0]

    return re.sub(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]{0,20}://|\A)(?P<userinfo>\S*)@", mask, url)


@given(text=st.text(st.sampled_from("ab:/@ \n1-"), max_size=30))
def test_masking_by_words_is_the_rule(text: str) -> None:
    """Looking at one word after the other finds what the expression finds."""
    assert mask_url_credentials(text) == _reference(text)


@pytest.mark.parametrize(
    "piece", ["a", "a:", "a://", "@", "a:b@", "a://b:c@", "?pwd=", "a.+-", ";pwd=", ";pwd='", "a.pwd="]
)
def test_masking_takes_time_in_proportion(piece: str) -> None:
    """A text of a million characters takes well below the minutes to hours of a quadratic search."""
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    mask_url_credentials(text)
    mask_url_credentials(f"x {text}")
    assert time.process_time() - began < 20


class _Wordless(Exception):  # noqa: N818  # what it is called stands in the text
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_errors_are_told_with_class_and_without_secrets() -> None:
    """An error without text shows its class, one with a URL hides the password, none fails."""
    assert error_text(TimeoutError()) == "TimeoutError"
    assert error_text(OSError("redis://u:hemligt@h refused")) == "OSError: redis://u:***@h refused"
    assert error_fields(ValueError("x")) == {"error": "x", "error_type": "ValueError"}
    assert error_fields(_Wordless()) == {"error": "<no text>", "error_type": "_Wordless"}


@pytest.mark.parametrize(
    ("given", "masked"),
    [
        ("host=h user=u password=s3cret dbname=d", "host=h user=u password=*** dbname=d"),
        (r"password = 's3 cr\'et' host=h", "password = *** host=h"),
        ("Server=h;Pwd=s3cret", "Server=h;Pwd=***"),
        ("host=h sslpassword='s3cret", "host=h sslpassword=***"),
        ("host=h1,h2 port=1,2 dbname=d", "host=h1,h2 port=1,2 dbname=d"),
        ("Server=h;Pwd=s3 cr et;Database=d", "Server=h;Pwd=***"),
        ("bootstrap.servers=b:9092,sasl.password=s3cret", "bootstrap.servers=b:9092,sasl.password=***"),
        ("sasl.username=u;sasl.password=s3cret", "sasl.username=u;sasl.password=***"),
        (
            'PlainLoginModule required username="u" password="s3 cret";',
            'PlainLoginModule required username="u" password=***',
        ),
    ],
)
def test_a_connection_string_of_keywords_is_masked(given: str, masked: str) -> None:
    """Libpq's form, quoted or not, also where the quotation mark is never closed; and what ODBC makes of it."""
    assert mask_url_credentials(given) == masked
