"""`python -m qkt_node` is the command line."""

import sys

from qkt_node.cli.main import main

sys.exit(main())
