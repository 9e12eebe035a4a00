"""What is said of other hosts, wherever their sessions are shown."""

from typing import Final

OUT_OF_REACH: Final = "out of reach; it goes on measuring there"
