"""`python -m fartrack`: the command, where the environment's scripts are not on the path."""

import sys

from fartrack.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
