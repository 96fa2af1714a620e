"""What Git and pre-commit call: thin programs that start in milliseconds. Imports gate and ci, never the reverse."""
