"""`python -m deploy`; `deploy.operate.commands` says what it does."""

import sys

try:
    from deploy.operate.commands import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
