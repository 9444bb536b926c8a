"""`python -m modeling_gpt1` is the `gpt1` command."""

import sys

from .cli import main


sys.exit(main())
