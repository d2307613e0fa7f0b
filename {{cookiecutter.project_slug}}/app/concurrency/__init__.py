"""Ceilings on calls in flight: a fair limiter, its adaptive limit, slots for a whole fleet."""
