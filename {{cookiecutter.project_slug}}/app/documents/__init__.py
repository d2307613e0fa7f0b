"""Documents on their way from a client into the store, where answers find them."""
