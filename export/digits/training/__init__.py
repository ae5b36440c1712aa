"""The network, and the recipes that train it."""
