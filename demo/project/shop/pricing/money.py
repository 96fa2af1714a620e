"""Amounts as customers read them."""


def shown(cents: int) -> str:
    """Two digits after the point."""
    return f"{cents // 100}.{cents % 100:02d}"
