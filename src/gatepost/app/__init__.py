"""The room app: the only place where the others are joined. Settings and commands live here."""
