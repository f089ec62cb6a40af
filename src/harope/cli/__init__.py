"""The `harope` command."""
