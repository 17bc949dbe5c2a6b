"""The machine a job runs on: threads and devices, Ray, the disk, progress, and errors as sentences."""
