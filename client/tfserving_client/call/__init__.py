"""One call, free of I/O: what it asks, of which server, for how long, and if again."""
