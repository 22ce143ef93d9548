"""The task queue beside its peers: `python -m benchmarks.tasks --help`, and ../README.md for the method."""
