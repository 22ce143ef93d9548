"""Real servers, processes and a browser for tests. Nothing here knows pytest or needs Django's settings."""
