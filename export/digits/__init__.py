"""The digits' model: its data, its training, its graph, and what is known of it."""
