"""What the encodings cost: paired timings against their peers."""
