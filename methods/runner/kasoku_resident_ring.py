"""The tokens of a response on their way to the host: the device writes each to its place in memory that both see."""

from __future__ import annotations

NOTHING = -1


class Ring:
    """`ids` is the tensor (int32, a place for each token) that the device writes to; on a GPU it is pinned memory of
    the host, so that to look costs the GPU nothing and needs no call of CUDA.
    """

    def __init__(self, places: int, on_gpu: bool) -> None:
        import torch

        self.ids = torch.full((places,), NOTHING, dtype=torch.int32, device="cpu", pin_memory=on_gpu)
        self._seen = self.ids.numpy()

    def clear(self) -> None:
        """Before a response, once nothing of the last one is under way."""
        self._seen.fill(NOTHING)

    def after(self, count: int) -> list:
        """The ids that have come beside the first `count`, in order."""
        seen, found = self._seen, []
        while count < len(seen) and seen[count] != NOTHING:
            found.append(int(seen[count]))
            count += 1
        return found
