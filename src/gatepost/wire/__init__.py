"""What bytes mean: protocols as value machines, octets in, events out, answers in, octets out; no input or output."""
