"""What a process keeps of a cache in its own memory, and how it learns that another process has changed something."""
