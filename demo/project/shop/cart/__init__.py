"""What a customer wants to have."""
