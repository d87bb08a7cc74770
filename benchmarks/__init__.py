"""Measurements of convc, alone and against other engines."""
