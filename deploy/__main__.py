"""`python -m deploy`; `deploy.commands` says what it does."""

import sys

try:
    from deploy.commands import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
