"""The dialects: one room for each kind of plugin that Gatepost runs. They don't know one another."""
