"""`python -m t2i` is `t2i`."""

from t2i.cli.app import main

if __name__ == "__main__":
    main()
