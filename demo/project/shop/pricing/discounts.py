"""Discounts by code."""

PERCENT = {
    "SPRING": 10,
    "FRIENDS": 25,
}


def discounted(cents: int, code: str) -> int:
    """A price after the discount; an unknown code gives none. Never below zero, and rounded up to a whole cent."""
    percent = PERCENT.get(code, 0)
    return -(-cents * (100 - percent) // 100)
