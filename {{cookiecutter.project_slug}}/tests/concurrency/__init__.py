"""Tests of the ceilings; all but the fleet's run in virtual time."""
