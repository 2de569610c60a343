"""Whether this build of llama.cpp may use AMX, the matrix instructions of Intel's server processors since 2023.

GCC 12 takes the 64 bytes that `_tile_loadconfig` reads for 8 (`amxtileintrin.h`) and leaves the others unwritten.
llama.cpp built with it ends the process at the first prompt over Q4_0, Q4_1, Q8_0 or K-quant weights, on a processor
with AMX only: a general protection fault at `ldtilecfg`. GCC 14 was not seen to; what is older counts as broken. The
other code paths of the same build are sound.

Imports nothing but the standard library: `tools/install.py` runs it before anything is installed.
"""

import re
from pathlib import Path

SOUND_GCC = 14
_COMPILER = re.compile(rb"GCC: \([^)]{0,80}\) (\d+)\.[0-9.]+")


def broken_amx(folder: Path, system_info: bytes) -> str | None:
    """The compiler whose AMX code would end the process; None: this build is sound, or does not use AMX here.

    Args:
        folder: of llama.cpp's libraries.
        system_info: what `llama_print_system_info` says.
    """
    if b"AMX_INT8 = 1" not in system_info:
        return None
    for path in sorted(folder.glob("libggml-cpu*")):
        for found in _COMPILER.finditer(path.read_bytes()):
            if int(found[1]) < SOUND_GCC:
                return found[0].decode("ascii", "replace").removeprefix("GCC: ")
    return None
