"""`python -m gatepost` is the command `gatepost`."""

import sys

from gatepost.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
