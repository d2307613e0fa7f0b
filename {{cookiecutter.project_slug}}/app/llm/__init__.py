"""Talking to providers: one protocol, thin adapters, and what holds for all of them."""
