"""Sells one basket with the settings of the server that it stands on: ``python3 -m shop SETTINGS.json``."""

import json
import sys
from pathlib import Path

from shop.cart.basket import Basket
from shop.receipt import receipt

basket = Basket()
basket.add("tea", 2)
basket.add("cup")
print(receipt(basket, json.loads(Path(sys.argv[1]).read_text())))
