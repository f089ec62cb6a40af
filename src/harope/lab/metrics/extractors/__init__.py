"""Feature extractors: networks that compute features of images."""
