"""Builds the parts of the service from the settings."""
