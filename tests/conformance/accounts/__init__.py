"""A project's own session model, as Django's tests of sessions have one: with a column for an account."""
