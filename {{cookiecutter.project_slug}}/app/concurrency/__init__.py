"""Ceilings on calls in flight: a fair queue before them, and what finds or shares a limit."""
