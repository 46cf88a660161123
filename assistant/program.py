"""How this program was started and installed, for messages that say what to type. Any thread."""

from __future__ import annotations

import sys
from pathlib import Path

NAME = "video-assistant"
_REQUIREMENTS = "requirements.txt"


def called_as() -> str:
    """What starts this program on a command line: `video-assistant`, or `python app.py` in a clone."""
    return "python app.py" if Path(sys.argv[0]).name == "app.py" else NAME


def install_command() -> str:
    """What installs every package that this program needs: from the list in a clone, or the program again."""
    in_clone = (Path(__file__).parents[1] / _REQUIREMENTS).is_file()
    return f"pip install -r {_REQUIREMENTS}" if in_clone else "pip install . in the folder of its source"
