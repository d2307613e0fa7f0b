"""Sliding windows over requests and tokens: reserve an estimate, settle what was used."""
