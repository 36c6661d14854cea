"""`python -m messctl`."""

from messctl.cli import main

if __name__ == "__main__":
    main()
