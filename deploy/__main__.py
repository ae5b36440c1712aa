"""`python -m deploy`; see `deploy.commands`."""

import sys

try:
    from deploy.commands import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
