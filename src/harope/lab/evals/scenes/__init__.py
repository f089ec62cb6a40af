"""The built-in benchmark of scenes: samples read back and scored."""
