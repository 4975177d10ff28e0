"""Mailing lists: one address becomes many. Who may post, copies for the members, subscriptions, bounces."""
