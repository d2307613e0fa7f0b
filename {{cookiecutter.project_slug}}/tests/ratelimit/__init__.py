"""The rate limiter's promises, kept by the window in memory and by the one on Redis."""
