"""A model that somebody brings: trained elsewhere, of any kind that the server can load."""
