"""From events to the bytes of a response."""
