"""What is asked of a version, whichever way the question came."""
