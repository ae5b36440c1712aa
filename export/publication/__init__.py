"""Publishing any model: its place on disk, and how the server will load it."""
