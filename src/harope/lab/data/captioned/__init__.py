"""Images with captions: folders, tar shards, the hub, COCO, emoji, built-in scenes."""
