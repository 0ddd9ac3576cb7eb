"""`python -m p8`."""

import sys

from p8.cli import main

sys.exit(main())
