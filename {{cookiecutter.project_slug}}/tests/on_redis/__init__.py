"""Limits that processes share, on a real server."""
