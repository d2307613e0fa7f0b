"""The HTTP edge, over real sockets."""
