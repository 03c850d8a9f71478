"""Safe reads, atomic writes and portable names of files. Imports errors."""
