"""The methods that skvae is compared with, one file per kind of task."""
