"""How workers learn that there is work."""
