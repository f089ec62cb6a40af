"""Cost of the encodings: paired timings against each other and against other libraries."""
