"""What every part that keeps rows in a database shares."""
