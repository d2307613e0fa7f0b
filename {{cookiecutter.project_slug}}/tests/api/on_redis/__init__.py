"""Limits shared over a real server, through the HTTP edge."""
