"""Tests of the slots that a fleet shares, on a real server."""
