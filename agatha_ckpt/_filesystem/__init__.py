"""What the store needs of a filesystem."""
