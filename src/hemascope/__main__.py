"""`python -m hemascope`, for launchers such as torchrun that take a module."""

from hemascope.cli import main

if __name__ == "__main__":
    main()
