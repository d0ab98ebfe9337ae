"""Factories of errors. Accounts and tokens.

Made by ``make generate`` from ``error_handling/catalogue``; change that.
"""

from typing import Any, NoReturn
from uuid import UUID

from common_core.error_enums import IdentityErrorCode
from huleedu_service_libs.error_handling._raising import make_error

__all__ = [
    "raise_account_locked_error",
    "raise_email_already_verified_error",
    "raise_email_not_verified_error",
    "raise_invalid_credentials_error",
    "raise_invalid_token_error",
    "raise_missing_token_error",
    "raise_password_reset_not_requested_error",
    "raise_refresh_token_expired_error",
    "raise_refresh_token_invalid_error",
    "raise_reset_token_expired_error",
    "raise_reset_token_invalid_error",
    "raise_token_expired_error",
    "raise_token_invalid_error",
    "raise_user_already_exists_error",
    "raise_user_not_found_error",
    "raise_verification_token_expired_error",
    "raise_verification_token_invalid_error",
]


def raise_invalid_credentials_error(
    service: str,
    operation: str,
    email: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """E-mail address or password is wrong; which one is not said. Raises IDENTITY_INVALID_CREDENTIALS, HTTP 401."""
    raise make_error(
        IdentityErrorCode.INVALID_CREDENTIALS,
        "Invalid email or password",
        service,
        operation,
        correlation_id,
        {"email": email, **additional_context},
    )


def raise_user_not_found_error(
    service: str,
    operation: str,
    identifier: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The user does not exist. Raises IDENTITY_USER_NOT_FOUND, HTTP 404."""
    raise make_error(
        IdentityErrorCode.USER_NOT_FOUND,
        f"User not found: {identifier}",
        service,
        operation,
        correlation_id,
        {"identifier": identifier, **additional_context},
    )


def raise_user_already_exists_error(
    service: str,
    operation: str,
    email: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The e-mail address has an account already. Raises IDENTITY_USER_ALREADY_EXISTS, HTTP 409."""
    raise make_error(
        IdentityErrorCode.USER_ALREADY_EXISTS,
        f"User already exists with email: {email}",
        service,
        operation,
        correlation_id,
        {"email": email, **additional_context},
    )


def raise_email_not_verified_error(
    service: str,
    operation: str,
    email: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The e-mail address has not been verified. Raises IDENTITY_EMAIL_NOT_VERIFIED, HTTP 403."""
    raise make_error(
        IdentityErrorCode.EMAIL_NOT_VERIFIED,
        f"Email not verified: {email}",
        service,
        operation,
        correlation_id,
        {"email": email, **additional_context},
    )


def raise_account_locked_error(
    service: str,
    operation: str,
    email: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The account is locked. Raises IDENTITY_ACCOUNT_LOCKED, HTTP 423."""
    raise make_error(
        IdentityErrorCode.ACCOUNT_LOCKED,
        f"Account is locked: {email}",
        service,
        operation,
        correlation_id,
        {"email": email, **additional_context},
    )


def raise_token_expired_error(
    service: str,
    operation: str,
    token_type: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The token has expired. Raises IDENTITY_TOKEN_EXPIRED, HTTP 401."""
    raise make_error(
        IdentityErrorCode.TOKEN_EXPIRED,
        f"{token_type} token has expired",
        service,
        operation,
        correlation_id,
        {"token_type": token_type, **additional_context},
    )


def raise_token_invalid_error(
    service: str,
    operation: str,
    token_type: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The token is missing or not valid. Raises IDENTITY_TOKEN_INVALID, HTTP 401."""
    raise make_error(
        IdentityErrorCode.TOKEN_INVALID,
        f"{token_type} token is invalid",
        service,
        operation,
        correlation_id,
        {"token_type": token_type, **additional_context},
    )


def raise_refresh_token_invalid_error(
    service: str,
    operation: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The refresh token is not valid. Raises IDENTITY_REFRESH_TOKEN_INVALID, HTTP 401."""
    raise make_error(
        IdentityErrorCode.REFRESH_TOKEN_INVALID,
        "Refresh token is invalid or revoked",
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_refresh_token_expired_error(
    service: str,
    operation: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The refresh token has expired. Raises IDENTITY_REFRESH_TOKEN_EXPIRED, HTTP 401."""
    raise make_error(
        IdentityErrorCode.REFRESH_TOKEN_EXPIRED,
        "Refresh token has expired",
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_verification_token_expired_error(
    service: str,
    operation: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The verification link has expired. Raises IDENTITY_VERIFICATION_TOKEN_EXPIRED, HTTP 400."""
    raise make_error(
        IdentityErrorCode.VERIFICATION_TOKEN_EXPIRED,
        "Email verification token has expired",
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_verification_token_invalid_error(
    service: str,
    operation: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The verification link is not valid. Raises IDENTITY_VERIFICATION_TOKEN_INVALID, HTTP 400."""
    raise make_error(
        IdentityErrorCode.VERIFICATION_TOKEN_INVALID,
        "Email verification token is invalid",
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_email_already_verified_error(
    service: str,
    operation: str,
    email: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The e-mail address has been verified before. Raises IDENTITY_EMAIL_ALREADY_VERIFIED, HTTP 409."""
    raise make_error(
        IdentityErrorCode.EMAIL_ALREADY_VERIFIED,
        f"Email is already verified: {email}",
        service,
        operation,
        correlation_id,
        {"email": email, **additional_context},
    )


def raise_reset_token_expired_error(
    service: str,
    operation: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The link to reset the password has expired. Raises IDENTITY_RESET_TOKEN_EXPIRED, HTTP 400."""
    raise make_error(
        IdentityErrorCode.RESET_TOKEN_EXPIRED,
        "Password reset token has expired",
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_reset_token_invalid_error(
    service: str,
    operation: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The link to reset the password is not valid. Raises IDENTITY_RESET_TOKEN_INVALID, HTTP 400."""
    raise make_error(
        IdentityErrorCode.RESET_TOKEN_INVALID,
        "Password reset token is invalid",
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_password_reset_not_requested_error(
    service: str,
    operation: str,
    email: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """Nobody asked to reset this password. Raises IDENTITY_PASSWORD_RESET_NOT_REQUESTED, HTTP 400."""
    raise make_error(
        IdentityErrorCode.PASSWORD_RESET_NOT_REQUESTED,
        f"Password reset was not requested for: {email}",
        service,
        operation,
        correlation_id,
        {"email": email, **additional_context},
    )


def raise_invalid_token_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The token is not valid. Raises IDENTITY_TOKEN_INVALID, HTTP 401."""
    raise make_error(
        IdentityErrorCode.TOKEN_INVALID,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_missing_token_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The token is missing. Raises IDENTITY_TOKEN_INVALID, HTTP 401."""
    raise make_error(
        IdentityErrorCode.TOKEN_INVALID,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )
