from random import Random

from shop.pricing import prices


def test_a_total_is_the_sum_of_price_times_count():
    assert prices.total({"tea": 2, "cup": 1}) == 2 * prices.PRICES["tea"] + prices.PRICES["cup"]


def test_an_empty_basket_costs_nothing():
    assert prices.total({}) == 0


def test_totals_add_up_for_any_two_baskets():
    random = Random(1)
    for _ in range(10000):
        one, other = ({article: random.randint(0, 9) for article in prices.PRICES} for _ in range(2))
        both = {article: one[article] + other[article] for article in prices.PRICES}
        assert prices.total(one) + prices.total(other) == prices.total(both)
