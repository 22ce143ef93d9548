"""A project's own tables, for tasks that write: emptying them leaves nobody without the permissions that Django made."""
