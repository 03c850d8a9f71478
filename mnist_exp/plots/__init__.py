"""Pictures: functions from plain numbers to figures. Imports errors."""
