"""A device of torch for tests, "npu": `npu.cpp`, on devices of Dure in software."""

import os
import subprocess
import types
from pathlib import Path

import dure
import torch
from torch.utils import cpp_extension

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def compile_shared(compiler: list[str], library: Path, source: Path, *options: str) -> None:
    """Compiles a file to a shared library."""
    subprocess.run([*compiler, "-shared", "-fPIC", str(source), "-o", str(library), *options], check=True)


def build(folder: Path) -> dict[str, str]:
    """Builds the device and the plug-ins in a folder; the environment of ranks that use them."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    cargo = ["cargo", "build", "--quiet", "--release", "--locked", "--package", "dure-npu-a"]
    subprocess.run(cargo, cwd=ROOT, check=True)
    npu_b = folder / "libnpu_b.so"
    devices = ROOT / "transport/device"
    includes = ["-I", str(devices / "abi/include")]
    compile_shared(["cc", "-std=c11", "-O2"], npu_b, devices / "plugins/npu-b/npu_b.c", *includes, "-ldl")
    npu = folder / "libnpu.so"
    includes = [f"-I{path}" for path in (*cpp_extension.include_paths(), ROOT / "bindings/capi/include")]
    libraries = [f"-L{path}" for path in cpp_extension.library_paths()] + ["-ltorch_cpu", "-lc10"]
    dure_library = next(Path(dure.__file__).parent.glob("libdure.so.*"))
    compile_shared(["c++", "-std=c++20", "-Wall"], npu, HERE / "npu.cpp", *includes, *libraries, str(dure_library))
    return {"TEST_NPU": str(npu), "DURE_DEVICE_PLUGINS": f"{target / 'release/libdure_npu_a.so'},{npu_b}"}


def load() -> None:
    """Gives torch the device. This rank's is of the maker that it finds at its place in TEST_MAKERS."""
    rank = int(os.environ["RANK"])
    makers = os.environ["TEST_MAKERS"].split(",")
    os.environ["DURE_DEVICE"] = f"{makers[rank % len(makers)]}:{rank}"
    module = types.ModuleType("npu")
    module.is_available, module.device_count = lambda: True, lambda: 2
    torch.utils.rename_privateuse1_backend("npu")
    torch._register_device_module("npu", module)
    torch.ops.load_library(os.environ["TEST_NPU"])
