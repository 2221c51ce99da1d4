"""``python -m oneself`` is ``oneself``."""

from oneself.commands import main

if __name__ == "__main__":
    main(prog_name="oneself")
