"""Where records live. `base` says what a store can do; each other module is one store."""
