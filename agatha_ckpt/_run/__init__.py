"""What one call does: its decision, its execution, its progress."""
