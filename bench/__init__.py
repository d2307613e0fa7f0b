"""What the service costs, beside what passing the same bytes costs at the least."""
