"""The service's tests, laid out like `app`."""
