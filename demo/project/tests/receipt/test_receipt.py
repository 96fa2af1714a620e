from shop.cart.basket import Basket
from shop.receipt import receipt

SETTINGS = {"greeting": "Good day", "currency": "EUR"}


def test_the_last_line_is_the_total():
    basket = Basket()
    basket.add("cup", 2)
    assert receipt(basket, SETTINGS).splitlines()[-1].startswith("total 18.00")


def test_the_greeting_comes_first():
    assert receipt(Basket(), SETTINGS).startswith("Good day")
