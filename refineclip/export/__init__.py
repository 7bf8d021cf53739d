"""Refined encoders, detectors and segmentors as files that other programs load.

One module a format. Each writes a folder, loads it back with the library that it is for, and
compares the numbers.
"""
