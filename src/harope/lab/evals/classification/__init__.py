"""Class accuracy of samples, by a classifier of the real images."""
