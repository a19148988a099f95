"""First estimates of a job's time, from a measurement of the device alone, beside what the jobs really took."""
