"""The engine protocol, llama.cpp and Transformers."""
