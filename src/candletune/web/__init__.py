"""The local pages and the HTTP signal, with one guard."""
