"""Collecting: mail that waits on other servers is fetched by POP3, and taken in as if it had come by SMTP."""
