"""What things cost, in cents."""
