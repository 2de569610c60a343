"""A base model: finding it, its tokenizer and chat format, loading it, and the tiny one."""
