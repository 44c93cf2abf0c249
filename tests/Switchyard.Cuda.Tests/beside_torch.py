"""Runs the GPU tests in a process that PyTorch uses at the same time: both share the devices' primary contexts.

    beside_torch.py PROGRAMS [ARGUMENT...]

.NET is hosted in this process. While its tests run, a thread of Python multiplies matrices on a stream of PyTorch's, over and over, and compares
each product with the first. Tests that start processes of themselves cannot run here. The exit code is that of the tests, or 1 where a product
differed.
"""
import ctypes
import os
import pathlib
import shutil
import sys
import threading

# Streams beyond so many share queues, and a kernel that waits for another must not stand before it in one. Read when the first user of the
# driver begins, here PyTorch.
os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")

import torch


def host(programs: pathlib.Path):
    """The library that starts .NET, and the folder of the runtime: packed with the programs, or the one that dotnet is of."""
    packed = programs / "libhostfxr.so"
    if packed.exists():
        return packed, programs
    root = pathlib.Path(shutil.which("dotnet")).resolve().parent
    return max(root.glob("host/fxr/*/libhostfxr.so"), key=lambda path: [int(part) for part in path.parent.name.split("-")[0].split(".")]), root


def run_tests(programs: pathlib.Path, arguments: list) -> int:
    library, root = host(programs)
    program = programs / "Switchyard.Cuda.Tests"
    words = [str(program), *arguments]
    encoded = [word.encode() for word in words]
    start = ctypes.CDLL(str(library)).hostfxr_main_startupinfo
    return start(
        len(encoded), (ctypes.c_char_p * len(encoded))(*encoded),
        str(program).encode(), str(root).encode(), str(programs / "Switchyard.Cuda.Tests.dll").encode())


class Products(threading.Thread):
    """Products of two matrices on every device, until it is told to stop."""

    def __init__(self):
        super().__init__()
        self.devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
        self.factors = [torch.randn(2048, 2048, device=device) for device in self.devices]
        self.streams = [torch.cuda.Stream(device) for device in self.devices]
        self.outputs = [torch.empty_like(factor) for factor in self.factors]
        self.wrong = [torch.zeros((), dtype=torch.int64, device=device) for device in self.devices]
        self.expected = [factor @ factor for factor in self.factors]
        self.made = 0
        self.is_over = threading.Event()
        for device in self.devices:
            torch.cuda.synchronize(device)  # what is compared with comes of other streams
        self.multiply()  # so that everything is loaded and allocated before the tests begin
        self.made = 0

    def multiply(self):
        for index, stream in enumerate(self.streams):
            with torch.cuda.stream(stream):
                self.outputs[index].zero_()
                torch.matmul(self.factors[index], self.factors[index], out=self.outputs[index])
                self.wrong[index] += (self.outputs[index] != self.expected[index]).sum()
        for stream in self.streams:
            stream.synchronize()
        self.made += 1

    def run(self):
        while not self.is_over.is_set():
            self.multiply()

    def end(self) -> int:
        self.is_over.set()
        self.join()
        return sum(int(count) for count in self.wrong)


def main() -> int:
    products = Products()
    products.start()
    code = run_tests(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:])
    wrong = products.end()
    print(f"beside PyTorch {torch.__version__}: {products.made} products meanwhile, {wrong} wrong elements")
    return code if code != 0 or wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
