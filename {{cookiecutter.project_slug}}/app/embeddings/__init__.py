"""Texts as vectors: in the process, or by a provider."""
