"""The hand-written GPU pass: packed rows, kernels, memory plan."""
