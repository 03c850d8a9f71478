"""The commands, a file each, imported when it is named; each has ``main(arguments) -> exit code``."""
