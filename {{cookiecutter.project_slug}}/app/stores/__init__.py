"""Where passages live: one protocol, and a store for each database."""
