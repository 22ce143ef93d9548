"""Session engines side by side: Backroom's beside Django's, on the same stores, in the same minutes."""
