"""Views and actions over what the lower rooms offer: made once, for the control socket, the command line and tests."""
