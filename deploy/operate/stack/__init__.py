"""The containers: starting them, looking at them, taking them away."""
