"""Who the visitor is: sign-in, a notepad, what the session holds, the colours of the pages."""
