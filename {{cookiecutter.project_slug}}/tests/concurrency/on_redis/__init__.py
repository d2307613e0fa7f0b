"""Tests of the slots that processes share, on a real server."""
