from random import Random

import pytest

from shop.cart.basket import Basket


def test_an_article_is_counted_as_often_as_it_was_added():
    basket = Basket()
    basket.add("tea")
    basket.add("tea", 2)
    assert basket.items == {"tea": 3}


def test_fewer_than_one_cannot_be_added():
    with pytest.raises(ValueError, match="at least one"):
        Basket().add("tea", 0)


def test_the_count_is_right_for_any_shopping_tour():
    random = Random(1)
    for _ in range(300):
        counts = [random.randint(1, 9) for _ in range(100)]
        basket = Basket()
        for count in counts:
            basket.add(random.choice(["tea", "cup", "pot"]), count)
        assert basket.count == sum(counts)
