"""Tests of the ceilings on calls in flight."""
