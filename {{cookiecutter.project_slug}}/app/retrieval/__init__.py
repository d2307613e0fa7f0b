"""Finding what an answer should know: sources searched together, fused, and cited."""
