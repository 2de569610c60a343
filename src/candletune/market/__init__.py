"""What was knowable at a decision time: candles, indicators, sentiment context, timeframes, simulated markets."""
