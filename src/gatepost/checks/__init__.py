"""The built-in policies: ordinary Python plugins. Source: `gatepost.checks.header:Header`."""
