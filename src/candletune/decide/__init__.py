"""From a prompt to a decision: adapters' facts, base rates, calibration."""
