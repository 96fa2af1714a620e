"""The receipt: where basket and prices meet."""

from collections.abc import Mapping

from shop.cart.basket import Basket
from shop.pricing import prices
from shop.pricing.money import shown


def receipt(basket: Basket, settings: Mapping[str, str]) -> str:
    """One line per article and a total. settings: those of the server that prints it."""
    lines = [settings["greeting"]]
    lines += [f"{count} x {article}" for article, count in basket.items.items()]
    return "\n".join([*lines, f"total {shown(prices.total(basket.items))}"])
