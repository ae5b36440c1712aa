"""What is told of a version: its model card and its pictures."""
