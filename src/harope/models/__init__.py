"""Models that harope builds, reads and trains."""
