"""The HTTP edge: routes, admission, and errors as statuses."""
