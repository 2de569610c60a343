"""Adapter and model writers for llama.cpp's file format."""
