"""Finding what an answer should know: sources asked side by side, fused, cited."""
