"""`python -m candletune`."""

from candletune.cli import main

if __name__ == "__main__":
    main()
