"""Arguments → configuration → serve; nothing else. `thriftgate` and `python -m gateway` are the same."""

from gateway.cli import main

if __name__ == "__main__":
    main()
