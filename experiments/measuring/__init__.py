"""One variant measured: the worker, its loop, warm-up, calibrations, peaks, cold starts, how a job is started and
watched."""
