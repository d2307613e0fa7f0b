"""The window on a server: the contract again, and what only a server can do to it."""
