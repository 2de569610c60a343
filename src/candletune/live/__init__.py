"""Live: the signal, the shadow loop, which model acts, promotion and rollback."""
