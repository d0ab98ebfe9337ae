"""``python -m huleedu_service_libs.cli``, where the script is not on the path."""

import sys

from huleedu_service_libs.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
