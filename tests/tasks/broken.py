"""A module that cannot be imported, as after a bad release."""

raise ZeroDivisionError("a module of the project's raises what it likes")
