"""The jobs a person asks for, from start to finish, whole or absent: one file a job."""
