"""On the path of counted workers; see sitecustomize.py."""
