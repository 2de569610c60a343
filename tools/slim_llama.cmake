# Included by CMake when it configures llama-cpp-python. candletune loads libllama and ggml alone; llama.cpp's `common`
# and `mtmd` are more than half of the work of building it. The package forces the cached option on, so it is shadowed.
set(LLAMA_BUILD_COMMON OFF)
include(${CMAKE_CURRENT_LIST_DIR}/amx.cmake)
