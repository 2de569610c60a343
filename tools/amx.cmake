# GCC before 14 breaks llama.cpp's AMX code, which this macro switches on: see src/candletune/engines/amx.py.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  add_compile_options(-U__AMX_INT8__)
endif()
