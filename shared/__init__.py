"""Words, wire messages and adapters that two deployables need. Decides nothing, imports nothing of ours but itself."""
