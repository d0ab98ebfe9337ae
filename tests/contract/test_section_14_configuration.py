"""Section 14: the base of services' settings."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from common_core.config_enums import Environment
from huleedu_service_libs.config import SecureServiceSettings, secure_base
from tests.contract.signatures import Wanted
from tests.contract.tables import signatures

VARIABLES = (
    "ENVIRONMENT",
    "HULEEDU_DB_PASSWORD",
    "HULEEDU_INTERNAL_API_KEY",
    "HULEEDU_DB_USER",
    "HULEEDU_PROD_DB_HOST",
    "HULEEDU_PROD_DB_PORT",
    "HULEEDU_PROD_DB_PASSWORD",
)
QUESTIONS = {
    Environment.PRODUCTION: "is_production",
    Environment.DEVELOPMENT: "is_development",
    Environment.STAGING: "is_staging",
    Environment.TESTING: "is_testing",
}


class Settings(SecureServiceSettings):
    """As a service writes it: a name, a prefix, a database address."""

    model_config = SettingsConfigDict(env_prefix="SVC_", extra="ignore")

    SERVICE_NAME: str = "essay-service"
    PORT: int = 1

    @property
    def database_url(self) -> str:
        """Overridden, too."""
        return str(getattr(self, "_database_url", "postgresql://default"))


@pytest.mark.parametrize("wanted", signatures(14), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.contract("14-base", "14-fields")
def test_the_base() -> None:
    """Pydantic's settings with three fields of these types and defaults; prefix and file are the service's to choose."""
    assert secure_base.SecureServiceSettings is SecureServiceSettings
    assert issubclass(SecureServiceSettings, BaseSettings)
    assert "model_config" not in vars(SecureServiceSettings) or (
        SecureServiceSettings.model_config == BaseSettings.model_config
    )
    found = SecureServiceSettings()
    assert (found.ENVIRONMENT, type(found.ENVIRONMENT)) == (Environment.DEVELOPMENT, Environment)
    assert (SecretStr(""), SecretStr("")) == (found.DB_PASSWORD, found.INTERNAL_API_KEY)


@pytest.mark.contract("14-variables", "14-secrets")
def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three without the prefix; the service's own with it."""
    for name, value in (
        ("ENVIRONMENT", "staging"),
        ("SVC_ENVIRONMENT", "production"),
        ("HULEEDU_DB_PASSWORD", "geheim-1"),
        ("SVC_DB_PASSWORD", "wrong"),
        ("HULEEDU_INTERNAL_API_KEY", "geheim-2"),
        ("SVC_PORT", "77"),
    ):
        monkeypatch.setenv(name, value)
    found = Settings()
    assert (found.ENVIRONMENT, found.PORT) == (Environment.STAGING, 77)
    assert (found.get_db_password(), found.get_internal_api_key()) == ("geheim-1", "geheim-2")
    assert SecretStr("geheim-1") == found.DB_PASSWORD


@pytest.mark.contract("14-redeclared")
def test_what_a_service_declares_anew(tmp_path: Path) -> None:
    """The environment, and its own file whose other lines are ignored."""
    (tmp_path / ".env").write_text("HULEEDU_DB_PASSWORD=aus-der-datei\nSOMETHING_ELSE=1\nOWN_PORT=5\n")

    class Own(SecureServiceSettings):
        model_config = SettingsConfigDict(env_file=tmp_path / ".env", env_prefix="OWN_", extra="ignore")
        ENVIRONMENT: Environment = Environment.TESTING
        PORT: int = 1

    found = Own()
    assert (found.is_testing(), found.get_db_password(), found.PORT) == (True, "aus-der-datei", 5)


@pytest.mark.contract("14-environments", "14-requires-security", "14-overridden")
@pytest.mark.parametrize("environment", list(Environment), ids=lambda one: str(one.value))
def test_environments(monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    """One of four is true; real data needs security; a service may answer otherwise."""
    monkeypatch.setenv("ENVIRONMENT", environment.value)
    found = Settings()
    assert {one: getattr(found, name)() for one, name in QUESTIONS.items()} == {
        one: one is environment for one in QUESTIONS
    }
    assert found.requires_security() == (environment in {Environment.PRODUCTION, Environment.STAGING})

    class Own(Settings):
        def is_production(self) -> bool:
            return True

        def is_development(self) -> bool:
            return False

    assert (Own().is_production(), Own().is_development()) == (True, False)


@pytest.mark.contract("14-text")
def test_no_secret_in_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Class, service and environment; `unknown` without a service name."""
    monkeypatch.setenv("HULEEDU_DB_PASSWORD", "geheim-1")
    monkeypatch.setenv("ENVIRONMENT", "staging")
    text = "Settings(service=essay-service, environment=staging, secrets=***MASKED***)"
    assert str(Settings()) == repr(Settings()) == text
    unnamed = "SecureServiceSettings(service=unknown, environment=staging, secrets=***MASKED***)"
    assert str(SecureServiceSettings()) == unnamed


@pytest.mark.contract("14-masked-url")
@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql+asyncpg://u:p@h:5432/d", "postgresql+asyncpg://u:***@h:5432/d"),
        ("postgresql://u:p%40ss@h/d?ssl=require", "postgresql://u:***@h/d?ssl=require"),
        ("postgresql://u:p@ss@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("redis://:geheim@h:6379/0", "redis://:***@h:6379/0"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
    ],
)
def test_addresses_are_masked(url: str, masked: str) -> None:
    """The password is hidden, also with ``@`` in it or without a user (defect 53); all else stays."""
    assert Settings().database_url_masked(url) == masked


@pytest.mark.contract("14-shared-credentials")
def test_shared_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password, or an error."""
    for variables in ({}, {"HULEEDU_DB_USER": "u"}, {"HULEEDU_DB_USER": "", "HULEEDU_DB_PASSWORD": "p"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match="HULEEDU_DB"):
            Settings().get_shared_database_credentials()
    monkeypatch.setenv("HULEEDU_DB_USER", "u")
    assert Settings().get_shared_database_credentials() == {"db_user": "u", "db_password": "p"}


@pytest.mark.contract("14-production-credentials", "14-production-refusals")
def test_production_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused outside production and without host or password; then with defaults for port and user."""

    def refused() -> None:
        with pytest.raises(ValueError, match=r"."):
            Settings().get_production_database_credentials()

    monkeypatch.setenv("HULEEDU_PROD_DB_HOST", "h")
    monkeypatch.setenv("HULEEDU_PROD_DB_PASSWORD", "p")
    refused()
    monkeypatch.setenv("ENVIRONMENT", "production")
    for missing in ("HULEEDU_PROD_DB_HOST", "HULEEDU_PROD_DB_PASSWORD"):
        with monkeypatch.context() as inside:
            inside.delenv(missing)
            refused()
    expected = {"host": "h", "port": "5432", "password": "p", "user": "huleedu_user"}
    assert Settings().get_production_database_credentials() == expected
    monkeypatch.setenv("HULEEDU_PROD_DB_PORT", "6432")
    monkeypatch.setenv("HULEEDU_DB_USER", "u")
    assert Settings().get_production_database_credentials() == {**expected, "port": "6432", "user": "u"}


@pytest.mark.contract("14-bypassed")
def test_validation_can_be_bypassed() -> None:
    """As services' tests set a database address."""
    settings: Any = Settings()
    object.__setattr__(settings, "_database_url", "postgresql://test")  # the services' way
    assert settings.database_url == "postgresql://test"
