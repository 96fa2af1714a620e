"""The price list, and sums of it."""

from collections.abc import Mapping

PRICES = {
    "tea": 450,
    "cup": 900,
    "pot": 2500,
}


def total(items: Mapping[str, int]) -> int:
    """What so many of these articles cost together. Raises KeyError for an article that is not sold."""
    return sum(PRICES[article] * count for article, count in items.items())
