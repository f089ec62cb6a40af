"""Datasets of captioned images: folders, tar shards, the hub, COCO, emoji and built-in scenes."""
