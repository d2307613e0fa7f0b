"""From an answer's chunks to the bytes of a response, whatever way it ends."""
