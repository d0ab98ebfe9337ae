"""How a client may enter Redis: who it is, and what it trusts.

`RedisClientConfig.access` holds one. It opens no connection and knows no driver. Secrets are in no ``repr``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

__all__ = ["RedisAccess", "RedisTls", "read_numbers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTls:
    """What a ``rediss://`` connection trusts, and what it shows. All files are in PEM form.

    Attributes:
        ca_file: The authorities that may have signed the server's certificate; ``None`` is the system's.
        certificate_file: This client's certificate, where the server asks for one.
        key_file: Its private key, unless it stands in the same file.
        key_password: Opens the key.
        check_hostname: Whether the server's certificate must be for the host that was asked for.

    Raises:
        ValueError: A file does not exist, or a key comes without its certificate.
    """

    ca_file: str | Path | None = None
    certificate_file: str | Path | None = None
    key_file: str | Path | None = None
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True

    def __post_init__(self) -> None:
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError(f"key_file {str(self.key_file)!r} has no certificate: give certificate_file, too")
        for name in ("ca_file", "certificate_file", "key_file"):
            file = getattr(self, name)
            if file is not None and not Path(file).is_file():
                raise ValueError(f"{name} {str(file)!r} is no file: is the secret mounted, and the path right?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAccess:
    """Credentials and TLS. What is given here wins over the same in the URL.

    Attributes:
        username: The ACL user; ``None`` is Redis' default user.
        password: The user's.
        sentinel_username: The ACL user for the Sentinels themselves.
        sentinel_password: That user's.
        tls: For ``rediss://`` URLs; ``None`` trusts the system's authorities, and what the URL's parameters say.

    Raises:
        ValueError: A user without a password.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: RedisTls | None = None

    def __post_init__(self) -> None:
        for user, password in (("username", "password"), ("sentinel_username", "sentinel_password")):
            if getattr(self, user) is not None and getattr(self, password) is None:
                raise ValueError(f"{user} {getattr(self, user)!r} has no password: give {password}, too")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read ``REDIS_USERNAME``, ``REDIS_PASSWORD`` and so on; an empty variable counts as none.

        A password may stand in a file instead, as Docker and Kubernetes mount it: ``REDIS_PASSWORD_FILE``,
        ``REDIS_SENTINEL_PASSWORD_FILE``, ``REDIS_TLS_KEY_PASSWORD_FILE``. TLS: ``REDIS_TLS_CA_FILE``,
        ``REDIS_TLS_CERTIFICATE_FILE``, ``REDIS_TLS_KEY_FILE``, ``REDIS_TLS_CHECK_HOSTNAME``.

        Raises:
            ValueError: A variable cannot be used; the text names it, and never a secret.
        """
        return cls(
            username=environ.get("REDIS_USERNAME") or None,
            password=_secret(environ, "REDIS_PASSWORD"),
            sentinel_username=environ.get("REDIS_SENTINEL_USERNAME") or None,
            sentinel_password=_secret(environ, "REDIS_SENTINEL_PASSWORD"),
            tls=_tls(environ),
        )


def read_numbers(kind: type[Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Values for those fields of a configuration class that are numbers, from ``REDIS_`` and the field's name.

    Raises:
        ValueError: A variable is no number; the text names it.
    """
    found: dict[str, Any] = {}
    for each in fields(kind):
        variable = f"REDIS_{each.name.upper()}"
        text = environ.get(variable)
        if text and isinstance(each.default, int | float) and not isinstance(each.default, bool):
            try:
                found[each.name] = type(each.default)(text)
            except ValueError:
                kind_of_number = "whole number" if isinstance(each.default, int) else "number"
                raise ValueError(f"{variable} is {text!r}: write a {kind_of_number}") from None
    return found


def _tls(environ: Mapping[str, str]) -> RedisTls | None:
    names = ("CA_FILE", "CERTIFICATE_FILE", "KEY_FILE", "CHECK_HOSTNAME")
    if not any(environ.get(f"REDIS_TLS_{name}") for name in names):
        return None
    return RedisTls(
        ca_file=environ.get("REDIS_TLS_CA_FILE") or None,
        certificate_file=environ.get("REDIS_TLS_CERTIFICATE_FILE") or None,
        key_file=environ.get("REDIS_TLS_KEY_FILE") or None,
        key_password=_secret(environ, "REDIS_TLS_KEY_PASSWORD"),
        check_hostname=_flag(environ, "REDIS_TLS_CHECK_HOSTNAME"),
    )


def _flag(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name) or "true"
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"{name} is {text!r}: write true or false")
    return text.lower() == "true"


def _secret(environ: Mapping[str, str], name: str) -> str | None:
    value, file = environ.get(name) or None, environ.get(f"{name}_FILE") or None
    if value is None and file is not None:
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ValueError(f"{name}_FILE {file!r} cannot be read: {error.strerror}") from error
    return value
