"""Codes of classes and students, and of accounts and tokens."""

from common_core.error_enums import ClassManagementErrorCode, IdentityErrorCode
from huleedu_service_libs.error_handling.catalogue.model import CodeDescription as Code
from huleedu_service_libs.error_handling.catalogue.model import FactoryDescription as Factory
from huleedu_service_libs.error_handling.catalogue.model import Family

__all__ = ["CLASS_MANAGEMENT", "IDENTITY"]

_ID = "Check the id."
_SIGN_IN = "Sign in again."
_NEW_LINK = "Ask for a new link."

CLASS_MANAGEMENT = Family(
    title="Classes",
    module="class_management_factories",
    codes=(
        Code(ClassManagementErrorCode.COURSE_NOT_FOUND, 404, "The course does not exist.", _ID),
        Code(ClassManagementErrorCode.COURSE_VALIDATION_ERROR, 400, "The course is not valid.", "Correct it."),
        Code(
            ClassManagementErrorCode.MULTIPLE_COURSE_ERROR,
            409,
            "More than one course where only one may be.",
            "Choose one course.",
        ),
        Code(ClassManagementErrorCode.CLASS_NOT_FOUND, 404, "The class does not exist.", _ID),
        Code(ClassManagementErrorCode.STUDENT_NOT_FOUND, 404, "The student does not exist.", _ID),
    ),
    factories=(
        Factory(
            "raise_course_not_found",
            ClassManagementErrorCode.COURSE_NOT_FOUND,
            "course_id: str",
            message="Course with ID '{course_id}' not found",
        ),
        Factory("raise_course_validation_error", ClassManagementErrorCode.COURSE_VALIDATION_ERROR),
        Factory("raise_multiple_course_error", ClassManagementErrorCode.MULTIPLE_COURSE_ERROR),
        Factory(
            "raise_class_not_found",
            ClassManagementErrorCode.CLASS_NOT_FOUND,
            "class_id: str",
            message="Class with ID '{class_id}' not found",
        ),
        Factory(
            "raise_student_not_found",
            ClassManagementErrorCode.STUDENT_NOT_FOUND,
            "student_id: str",
            message="Student with ID '{student_id}' not found",
        ),
    ),
)

IDENTITY = Family(
    title="Accounts and tokens",
    module="identity_factories",
    codes=(
        Code(
            IdentityErrorCode.INVALID_CREDENTIALS,
            401,
            "E-mail address or password is wrong; which one is not said.",
            "Try again, or reset the password.",
        ),
        Code(IdentityErrorCode.USER_NOT_FOUND, 404, "The user does not exist.", _ID),
        Code(
            IdentityErrorCode.USER_ALREADY_EXISTS,
            409,
            "The e-mail address has an account already.",
            "Sign in, or reset the password.",
        ),
        Code(
            IdentityErrorCode.EMAIL_NOT_VERIFIED,
            403,
            "The e-mail address has not been verified.",
            "Follow the link in the verification mail, or ask for a new one.",
        ),
        Code(
            IdentityErrorCode.ACCOUNT_LOCKED,
            423,
            "The account is locked.",
            "Wait, or ask an administrator to unlock it.",
        ),
        Code(IdentityErrorCode.TOKEN_EXPIRED, 401, "The token has expired.", _SIGN_IN),
        Code(IdentityErrorCode.TOKEN_INVALID, 401, "The token is missing or not valid.", _SIGN_IN),
        Code(IdentityErrorCode.REFRESH_TOKEN_INVALID, 401, "The refresh token is not valid.", _SIGN_IN),
        Code(IdentityErrorCode.REFRESH_TOKEN_EXPIRED, 401, "The refresh token has expired.", _SIGN_IN),
        Code(IdentityErrorCode.VERIFICATION_TOKEN_EXPIRED, 400, "The verification link has expired.", _NEW_LINK),
        Code(IdentityErrorCode.VERIFICATION_TOKEN_INVALID, 400, "The verification link is not valid.", _NEW_LINK),
        Code(
            IdentityErrorCode.EMAIL_ALREADY_VERIFIED,
            409,
            "The e-mail address has been verified before.",
            "Nothing; sign in.",
        ),
        Code(IdentityErrorCode.RESET_TOKEN_EXPIRED, 400, "The link to reset the password has expired.", _NEW_LINK),
        Code(IdentityErrorCode.RESET_TOKEN_INVALID, 400, "The link to reset the password is not valid.", _NEW_LINK),
        Code(
            IdentityErrorCode.PASSWORD_RESET_NOT_REQUESTED,
            400,
            "Nobody asked to reset this password.",
            "Ask for a reset first.",
        ),
    ),
    factories=(
        Factory(
            "raise_invalid_credentials_error",
            IdentityErrorCode.INVALID_CREDENTIALS,
            "email: str",
            message="Invalid email or password",
        ),
        Factory(
            "raise_user_not_found_error",
            IdentityErrorCode.USER_NOT_FOUND,
            "identifier: str",
            message="User not found: {identifier}",
        ),
        Factory(
            "raise_user_already_exists_error",
            IdentityErrorCode.USER_ALREADY_EXISTS,
            "email: str",
            message="User already exists with email: {email}",
        ),
        Factory(
            "raise_email_not_verified_error",
            IdentityErrorCode.EMAIL_NOT_VERIFIED,
            "email: str",
            message="Email not verified: {email}",
        ),
        Factory(
            "raise_account_locked_error",
            IdentityErrorCode.ACCOUNT_LOCKED,
            "email: str",
            message="Account is locked: {email}",
        ),
        Factory(
            "raise_token_expired_error",
            IdentityErrorCode.TOKEN_EXPIRED,
            "token_type: str",
            message="{token_type} token has expired",
        ),
        Factory(
            "raise_token_invalid_error",
            IdentityErrorCode.TOKEN_INVALID,
            "token_type: str",
            message="{token_type} token is invalid",
        ),
        Factory(
            "raise_refresh_token_invalid_error",
            IdentityErrorCode.REFRESH_TOKEN_INVALID,
            message="Refresh token is invalid or revoked",
        ),
        Factory(
            "raise_refresh_token_expired_error",
            IdentityErrorCode.REFRESH_TOKEN_EXPIRED,
            message="Refresh token has expired",
        ),
        Factory(
            "raise_verification_token_expired_error",
            IdentityErrorCode.VERIFICATION_TOKEN_EXPIRED,
            message="Email verification token has expired",
        ),
        Factory(
            "raise_verification_token_invalid_error",
            IdentityErrorCode.VERIFICATION_TOKEN_INVALID,
            message="Email verification token is invalid",
        ),
        Factory(
            "raise_email_already_verified_error",
            IdentityErrorCode.EMAIL_ALREADY_VERIFIED,
            "email: str",
            message="Email is already verified: {email}",
        ),
        Factory(
            "raise_reset_token_expired_error",
            IdentityErrorCode.RESET_TOKEN_EXPIRED,
            message="Password reset token has expired",
        ),
        Factory(
            "raise_reset_token_invalid_error",
            IdentityErrorCode.RESET_TOKEN_INVALID,
            message="Password reset token is invalid",
        ),
        Factory(
            "raise_password_reset_not_requested_error",
            IdentityErrorCode.PASSWORD_RESET_NOT_REQUESTED,
            "email: str",
            message="Password reset was not requested for: {email}",
        ),
        Factory("raise_invalid_token_error", IdentityErrorCode.TOKEN_INVALID, about="The token is not valid."),
        Factory("raise_missing_token_error", IdentityErrorCode.TOKEN_INVALID, about="The token is missing."),
    ),
    not_exported=frozenset({"raise_invalid_token_error", "raise_missing_token_error"}),
)
