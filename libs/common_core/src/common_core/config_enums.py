"""Deployment environments and providers."""

from enum import Enum

__all__ = ["Environment", "LLMProviderType"]


class Environment(str, Enum):
    """Where a service runs."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"
    TESTING = "testing"


class LLMProviderType(str, Enum):
    """Language-model providers."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GOOGLE = "google"
    OPENROUTER = "openrouter"
    MOCK = "mock"
