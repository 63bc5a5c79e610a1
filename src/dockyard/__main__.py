"""`python -m dockyard` is the command `dockyard`."""

from dockyard.cli import main

if __name__ == "__main__":
    main()
