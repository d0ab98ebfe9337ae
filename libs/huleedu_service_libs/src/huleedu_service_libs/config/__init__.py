"""Settings that every service derives from."""

from huleedu_service_libs.config.secure_base import SecureServiceSettings

__all__ = ["SecureServiceSettings"]
