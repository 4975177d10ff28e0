"""POP3: the server machine (`server`)."""
