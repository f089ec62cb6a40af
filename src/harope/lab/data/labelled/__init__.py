"""Images with class labels: folders, IDX files, digits, built-in scenes."""
