import pytest

from shop.pricing.discounts import PERCENT, discounted


def test_an_unknown_code_gives_no_discount():
    assert discounted(1000, "WINTER") == 1000


def test_a_discount_is_taken_off():
    assert discounted(1000, "SPRING") == 900


@pytest.mark.parametrize("code", PERCENT)
def test_nobody_is_paid_for_buying(code):
    assert discounted(1000, code) >= 0
