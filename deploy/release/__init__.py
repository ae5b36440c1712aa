"""Which version of a model is live: proved, released step by step, and taken back."""
