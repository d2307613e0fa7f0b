"""The HTTP client that all calls of the service share."""
