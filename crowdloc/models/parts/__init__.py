"""What several networks are made of: front-end, head, layers."""
