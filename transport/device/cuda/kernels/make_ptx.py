#!/usr/bin/env python3
"""Makes kernels.ptx of kernels.cu with NVRTC, and has ptxas assemble it where that is found.

    python3 -m venv nvrtc && nvrtc/bin/pip install nvidia-cuda-nvrtc-cu12==12.0.140 nvidia-cuda-nvcc-cu12==12.0.140
    nvrtc/bin/python kernels/make_ptx.py

An NVRTC of 12.0 writes PTX that every driver of the 12 series reads, and later ones. No GPU is needed.
"""

import ctypes
import glob
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# The oldest architecture, Volta: the driver compiles the text for what there is.
OPTIONS = [b"--gpu-architecture=compute_70", b"--fmad=false", b"--std=c++14"]
ASSEMBLED_FOR = ["sm_70", "sm_80", "sm_90"]


def find(pattern):
    found = [path for folder in sys.path for path in glob.glob(os.path.join(folder, "nvidia", pattern))]
    return found[0] if found else None


def check(nvrtc, status):
    if status != 0:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        sys.exit(f"NVRTC: {nvrtc.nvrtcGetErrorString(status).decode()}")


def text_of(nvrtc, program, what):
    size = ctypes.c_size_t()
    check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, text))
    return text.value.decode()


def compile_ptx(source):
    library = find("cuda_nvrtc/lib/libnvrtc.so.12") or sys.exit("there is no libnvrtc.so.12: see the top of this file")
    nvrtc = ctypes.CDLL(library)
    program = ctypes.c_void_p()
    check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None))
    status = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), (ctypes.c_char_p * len(OPTIONS))(*OPTIONS))
    if status != 0:
        sys.exit(text_of(nvrtc, program, "ProgramLog"))
    return text_of(nvrtc, program, "PTX")


def assemble(path):
    ptxas = find("cuda_nvcc/bin/ptxas")
    if ptxas is None:
        print("ptxas was not found: the text was not assembled")
        return
    for target in ASSEMBLED_FOR:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
            subprocess.run([ptxas, "--gpu-name", target, "-o", cubin.name, path], check=True)
        print(f"assembled for {target}")


def main():
    source = (HERE / "kernels.cu").read_bytes()
    lines = compile_ptx(source).splitlines()
    # Without what NVRTC says of itself, and its constants that no kernel uses.
    useless = ("//", ".global")
    kept = [line for line in lines if line.strip() and not line.strip().startswith(useless)]
    head = f"// kernels.cu {hashlib.sha256(source).hexdigest()}"
    path = HERE / "kernels.ptx"
    path.write_text("\n".join([head, "// Made by make_ptx.py.", *kept]) + "\n")
    print(f"{path}: {len(kept)} lines")
    assemble(path)


main()
