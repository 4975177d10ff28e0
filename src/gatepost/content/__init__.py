"""What a message is: its header section, a view of it that plugins edit, its MIME structure, and mail we write.

Strategy: octets are never changed in place and never parsed before somebody asks. A view is a blob with edits; reading
is bounded whatever the sender wrote, and writing makes safe whatever a plugin or a remote server said.
"""
