"""A small shop: what is in the basket, and what it costs."""
