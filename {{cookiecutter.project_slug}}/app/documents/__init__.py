"""Documents: accepted, queued in a catalogue, read, embedded and stored."""
