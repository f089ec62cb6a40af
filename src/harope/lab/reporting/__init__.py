"""Tables, plots and HTML pages; this package computes no results."""
