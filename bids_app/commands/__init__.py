"""The console's commands beside `run`: glue that knows the stages, one family of files each."""
