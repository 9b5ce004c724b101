"""What turns text into representations."""
