"""Models and their versions: from folders on disk to what can be run."""
