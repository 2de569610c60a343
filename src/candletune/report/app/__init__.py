"""The local app: blind review, its result, and the shadow's journal as it grows. Loopback only."""
