"""The commands, a file each, imported when named; each has ``main(arguments) -> exit code``."""
