from shop.pricing.money import shown


def test_cents_have_two_digits():
    assert shown(905) == "9.05"
