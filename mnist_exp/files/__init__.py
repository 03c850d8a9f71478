"""Files: read whatever they hold, written whole or not at all, named as every system allows.

Imports errors.
"""
