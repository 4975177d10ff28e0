"""SMTP, submission and LMTP: the server machine (`server`) and the client machine (`client`)."""
