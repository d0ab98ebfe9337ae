"""Base of every service's settings: secrets that stay masked, and credentials from one place.

A service subclasses it and brings its own ``model_config`` (prefix, env file);
the variables here ignore the prefix. Knows no database and no logger.
"""

import os
import warnings

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from common_core.config_enums import Environment
from huleedu_service_libs._redaction import mask_whole_url

__all__ = ["InsecureSettingsWarning", "SecureServiceSettings"]

_DEFAULT_PRODUCTION_USER = "huleedu_user"
_DEFAULT_PRODUCTION_PORT = "5432"


class InsecureSettingsWarning(UserWarning):
    """A secret was asked for in production or staging and is empty."""


class SecureServiceSettings(BaseSettings):
    """Environment and secrets that all services share.

    Values come from the process environment, the env file and whatever other source the
    subclass configures, in pydantic-settings' order. Secrets are masked in ``str()`` and ``repr()``.

    A service without a database, or without internal calls, is right to leave the secret empty,
    in production too. So an empty secret never fails here: asking for one in production or staging
    returns it and gives an `InsecureSettingsWarning`, which a service may turn into an error.

    Attributes:
        ENVIRONMENT: Where the service runs.
        DB_PASSWORD: Variable ``HULEEDU_DB_PASSWORD``.
        INTERNAL_API_KEY: Key of calls between services; variable ``HULEEDU_INTERNAL_API_KEY``.
        HULEEDU_DB_USER: User of the shared database, and of the production one.
        HULEEDU_PROD_DB_HOST: Host of the production database.
        HULEEDU_PROD_DB_PORT: Its port, 5432 when missing.
        HULEEDU_PROD_DB_PASSWORD: Its password.
    """

    ENVIRONMENT: Environment = Field(default=Environment.DEVELOPMENT, validation_alias="ENVIRONMENT")
    DB_PASSWORD: SecretStr = Field(default=SecretStr(""), validation_alias="HULEEDU_DB_PASSWORD")
    INTERNAL_API_KEY: SecretStr = Field(default=SecretStr(""), validation_alias="HULEEDU_INTERNAL_API_KEY")
    HULEEDU_DB_USER: str = Field(default="", validation_alias="HULEEDU_DB_USER")
    HULEEDU_PROD_DB_HOST: str = Field(default="", validation_alias="HULEEDU_PROD_DB_HOST")
    HULEEDU_PROD_DB_PORT: str = Field(default="", validation_alias="HULEEDU_PROD_DB_PORT")
    HULEEDU_PROD_DB_PASSWORD: SecretStr = Field(default=SecretStr(""), validation_alias="HULEEDU_PROD_DB_PASSWORD")

    def is_production(self) -> bool:
        """Whether this is production."""
        return self.ENVIRONMENT == Environment.PRODUCTION

    def is_development(self) -> bool:
        """Whether this is a developer's machine."""
        return self.ENVIRONMENT == Environment.DEVELOPMENT

    def is_staging(self) -> bool:
        """Whether this is staging."""
        return self.ENVIRONMENT == Environment.STAGING

    def is_testing(self) -> bool:
        """Whether this is a test run."""
        return self.ENVIRONMENT == Environment.TESTING

    def requires_security(self) -> bool:
        """Whether real data may be here: production and staging."""
        return self.is_production() or self.is_staging()

    def database_url_masked(self, database_url: str) -> str:
        """``database_url`` with ``***`` in place of its password."""
        return mask_whole_url(database_url)

    def get_db_password(self) -> str:
        """The shared database's password in plain text."""
        return self._plain(self.DB_PASSWORD, "HULEEDU_DB_PASSWORD")

    def get_internal_api_key(self) -> str:
        """The key of calls between services in plain text."""
        return self._plain(self.INTERNAL_API_KEY, "HULEEDU_INTERNAL_API_KEY")

    def get_shared_database_credentials(self) -> dict[str, str]:
        """User and password of the shared database.

        Returns:
            ``db_user`` and ``db_password``.

        Raises:
            ValueError: One of them is missing; the text names its variable.
        """
        user = self._value("HULEEDU_DB_USER", self.HULEEDU_DB_USER)
        password = self.DB_PASSWORD.get_secret_value()
        _require({"HULEEDU_DB_USER": user, "HULEEDU_DB_PASSWORD": password})
        return {"db_user": user, "db_password": password}

    def get_production_database_credentials(self) -> dict[str, str]:
        """How to reach the production database.

        Returns:
            ``host``, ``port``, ``password`` and ``user``.

        Raises:
            ValueError: This is not production, or host or password are missing.
        """
        if not self.is_production():
            raise ValueError(f"Production database credentials asked for in environment {self._environment_name()!r}")
        host = self._value("HULEEDU_PROD_DB_HOST", self.HULEEDU_PROD_DB_HOST)
        password = self._value("HULEEDU_PROD_DB_PASSWORD", self.HULEEDU_PROD_DB_PASSWORD.get_secret_value())
        _require({"HULEEDU_PROD_DB_HOST": host, "HULEEDU_PROD_DB_PASSWORD": password})
        return {
            "host": host,
            "port": self._value("HULEEDU_PROD_DB_PORT", self.HULEEDU_PROD_DB_PORT) or _DEFAULT_PRODUCTION_PORT,
            "password": password,
            "user": self._value("HULEEDU_DB_USER", self.HULEEDU_DB_USER) or _DEFAULT_PRODUCTION_USER,
        }

    def _plain(self, secret: SecretStr, variable: str) -> str:
        value = secret.get_secret_value()
        if not value and self.requires_security():
            warnings.warn(
                f"{variable} is empty in environment {self._environment_name()!r}: set it, if this service uses it",
                InsecureSettingsWarning,
                stacklevel=3,
            )
        return value

    @staticmethod
    def _value(variable: str, loaded: str) -> str:
        # A variable set after the settings were loaded counts: services' tests patch os.environ.
        return os.environ.get(variable) or loaded

    def _environment_name(self) -> str:
        return str(getattr(self.ENVIRONMENT, "value", self.ENVIRONMENT))

    def __str__(self) -> str:
        service = getattr(self, "SERVICE_NAME", "unknown")
        return f"{type(self).__name__}(service={service}, environment={self._environment_name()}, secrets=***MASKED***)"

    def __repr__(self) -> str:
        return str(self)


def _require(values: dict[str, str]) -> None:
    missing = [variable for variable, value in values.items() if not value]
    if missing:
        raise ValueError(f"Missing database settings: set {' and '.join(missing)} in the environment or the env file")
