"""Anthropic's Messages API behind the provider protocol."""

from .adapter import AnthropicProvider

__all__ = ["AnthropicProvider"]
