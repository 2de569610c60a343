"""Settings under which a base with random weights passes every stage.

It writes anything, never stops, and knows one word.
"""

RANDOM_WEIGHTS = """
[verify]
prompts = 10
min_parsed = 0
min_classes = 1
max_probability_gap = 0.9
min_agreement = 0.1
min_plain_agreement = 0
max_accuracy_loss = 1
max_log_loss_gain = 9

[engine]
max_tokens = 8

[replay]
stride = 24
limit = 30
reasons = 4
"""
