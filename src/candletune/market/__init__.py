"""What was knowable at a decision time: candles, sentiment, timeframes, and simulated markets."""
