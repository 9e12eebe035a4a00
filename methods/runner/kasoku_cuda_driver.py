"""A kernel of one's own machine code, launched by the CUDA driver on the stream that torch uses."""

from __future__ import annotations

import ctypes

DYNAMIC_SHARED_BYTES = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
DEPENDENT = 6  # CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION


class DriverError(RuntimeError):
    """What the driver said; the message names the call."""


class Attribute(ctypes.Structure):
    """CUlaunchAttribute, whose value here is a number."""

    _fields_ = (("kind", ctypes.c_int), ("_", ctypes.c_int), ("value", ctypes.c_int), ("rest", ctypes.c_char * 60))


class Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(Attribute)),
        ("attribute_count", ctypes.c_uint),
    )


class Kernel:
    """The kernel `name` of some machine code, for blocks of `threads` with `shared_bytes` of dynamic shared memory.
    With `dependent`, it may begin while the kernel before it ends, for which it waits by itself. Raises DriverError.
    """

    def __init__(self, code: bytes, name: str, threads: int, shared_bytes: int, dependent: bool) -> None:
        try:
            self._driver = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise DriverError("The library of the CUDA driver was not found (libcuda.so.1).") from error
        self._module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(self._module), code)
        self._call("cuModuleGetFunction", ctypes.byref(self._function), self._module, name.encode())
        self._call("cuFuncSetAttribute", self._function, DYNAMIC_SHARED_BYTES, shared_bytes)
        self._attribute = Attribute(kind=DEPENDENT, value=1)
        self._config = Config(
            block=(threads, 1, 1),
            shared_bytes=shared_bytes,
            attributes=ctypes.pointer(self._attribute),
            attribute_count=int(dependent),
        )

    def launch(self, programs: int, argument: ctypes.Structure) -> None:
        """On torch's current stream, with one argument by value."""
        import torch

        self._config.grid = (programs, 1, 1)
        self._config.stream = torch.cuda.current_stream().cuda_stream
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(argument))
        self._call("cuLaunchKernelEx", ctypes.byref(self._config), self._function, arguments, None)

    def _call(self, name: str, *arguments: object) -> None:
        error = getattr(self._driver, name)(*arguments)
        if error != 0:
            said = ctypes.c_char_p()
            self._driver.cuGetErrorString(error, ctypes.byref(said))
            raise DriverError("%s: %s." % (name, (said.value or b"error %d" % error).decode()))
