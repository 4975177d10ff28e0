"""Microsoft SMTP event sinks: classes in Python, and COM classes in a library, asked as IIS asked them."""
