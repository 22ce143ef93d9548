"""The engines that SESSION_ENGINE can name: `database` and `redis`."""
