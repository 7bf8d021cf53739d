"""The campaign: kills, cut files, full disks, hostile inputs, and pickles that would run code."""
