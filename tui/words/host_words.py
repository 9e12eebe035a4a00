"""What is said of other hosts, wherever their sessions are shown."""

from typing import Final

OUT_OF_REACH: Final = "out of reach; if it is up, it goes on measuring"
HOST_LOST: Final = f"The host is {OUT_OF_REACH}."
HOST_REACHED: Final = "The host is reached again."
UNCARRIED: Final = (
    "Nothing follows this session here any more; on its host it may go on: `kasoku attach` finds what it has measured."
)
