"""What decides: which changes may land on trunk, in which order, with which proof. Imports ci, never hooks."""
