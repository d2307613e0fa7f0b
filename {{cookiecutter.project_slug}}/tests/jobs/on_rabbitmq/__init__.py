"""What only a broker can show: confirmed publishing, and workers that survive what they must."""
